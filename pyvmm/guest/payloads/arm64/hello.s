// SPDX-License-Identifier: GPL-2.0-only
// hello: print one line and power off.

	adr	x2, line
1:	ldrb	w3, [x2], #1
	cbz	w3, 2f
	strb	w3, [x0]
	b	1b

2:	movz	w0, #0x8400, lsl #16	// PSCI SYSTEM_OFF
	movk	w0, #0x0008
	hvc	#0

line:	.asciz	"Hello from arm64\n"
