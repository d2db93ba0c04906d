// SPDX-License-Identifier: GPL-2.0-only
// exits: store to an address outside all memslots; each store is one MMIO exit.
//
// Argument block: u64 count, u64 address.

	ldp	x2, x3, [x1]
	cbz	x2, 2f
1:	str	w2, [x3]
	subs	x2, x2, #1
	b.ne	1b

2:	movz	w0, #0x8400, lsl #16	// PSCI SYSTEM_OFF
	movk	w0, #0x0008
	hvc	#0
