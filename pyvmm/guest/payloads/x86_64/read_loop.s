# SPDX-License-Identifier: GPL-2.0-only
# read_loop: read a 32-bit word in an endless loop and count the reads; the host stops it.
#
# Argument block: u64 address, u64 number of reads (result).

	mov	(%rsi), %rdx
	xor	%ecx, %ecx
1:	mov	(%rdx), %eax
	inc	%rcx
	mov	%rcx, 8(%rsi)
	jmp	1b
