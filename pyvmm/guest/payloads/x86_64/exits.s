# SPDX-License-Identifier: GPL-2.0-only
# exits: write to an I/O port; each write is one exit.
#
# Argument block: u64 count, u64 port.

	mov	(%rsi), %rcx
	mov	8(%rsi), %rdx
	xor	%eax, %eax
	jrcxz	2f
1:	out	%al, (%dx)
	dec	%rcx
	jnz	1b

2:	hlt
