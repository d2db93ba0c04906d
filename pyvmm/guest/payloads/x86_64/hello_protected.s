# SPDX-License-Identifier: GPL-2.0-only
# hello_protected: print one line from 32-bit protected mode and halt.

	.code32
	mov	%edi, %edx
	mov	$line, %esi
1:	lodsb
	test	%al, %al
	jz	2f
	out	%al, (%dx)
	jmp	1b

2:	hlt

line:	.asciz	"Hello from 32-bit protected mode\n"
