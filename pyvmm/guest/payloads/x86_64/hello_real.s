# SPDX-License-Identifier: GPL-2.0-only
# hello_real: print one line from real mode and halt.

	.code16
	mov	%di, %dx
	mov	$line, %si
1:	lodsb
	test	%al, %al
	jz	2f
	out	%al, (%dx)
	jmp	1b

2:	hlt

line:	.asciz	"Hello from real mode\n"
