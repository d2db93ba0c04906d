# SPDX-License-Identifier: GPL-2.0-only
# linger: read a 32-bit word for ever, and count how often; only the host can stop it.
#
# Argument block: u64 address, u64 how often it was read (answer).

	mov	(%rsi), %rdx
	xor	%ecx, %ecx
1:	mov	(%rdx), %eax
	inc	%rcx
	mov	%rcx, 8(%rsi)
	jmp	1b
