// SPDX-License-Identifier: GPL-2.0-only
// read_loop: read a 32-bit word in an endless loop and count the reads; the host stops it.
//
// Argument block: u64 address, u64 number of reads (result).

	ldr	x2, [x1]
	mov	x3, xzr
1:	ldr	w4, [x2]
	add	x3, x3, #1
	str	x3, [x1, #8]
	b	1b
