// SPDX-License-Identifier: GPL-2.0-only
// linger: read a 32-bit word for ever, and count how often; only the host can stop it.
//
// Argument block: u64 address, u64 how often it was read (answer).

	ldr	x2, [x1]
	mov	x3, xzr
1:	ldr	w4, [x2]
	add	x3, x3, #1
	str	x3, [x1, #8]
	b	1b
