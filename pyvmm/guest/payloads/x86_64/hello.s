# SPDX-License-Identifier: GPL-2.0-only
# hello: print one line and halt.

	mov	%edi, %edx
	lea	line(%rip), %rsi
1:	lodsb
	test	%al, %al
	jz	2f
	out	%al, (%dx)
	jmp	1b

2:	hlt

line:	.asciz	"Hello from x86_64\n"
