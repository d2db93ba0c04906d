# SPDX-License-Identifier: GPL-2.0-only
# loads: read a 32-bit word `count` times. From a memslot this causes no exit.
#
# Argument block: u64 count, u64 address, u64 the last word (result).

	mov	(%rsi), %rcx
	mov	8(%rsi), %rdx
	jrcxz	2f
1:	mov	(%rdx), %eax
	dec	%rcx
	jnz	1b
	mov	%rax, 16(%rsi)

2:	hlt
