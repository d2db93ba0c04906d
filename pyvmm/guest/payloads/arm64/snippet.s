// SPDX-License-Identifier: GPL-2.0-only
// snippet: run up to eight instructions and registers of the VMM's choice, and power off.
//
// The VMM overwrites the UDFs below with the instructions. Argument block (pyvmm/guest/snippet.py):
//	 0  u64 x0 to x7: before the run, and after it
//	64  u32 outcome: 1 all instructions ran, 2 synchronous exception, 3 SError
//	68  u32 syndrome: ESR_EL1, low word
//	72  u64 far: FAR_EL1
//	80  u64 elr: ELR_EL1
//
// The payload is its own vector table. Only the vectors at 0x200 and 0x380 can be taken.

	adr	x2, .			// the payload's first byte
	msr	vbar_el1, x2
	mov	x2, #3 << 20		// CPACR_EL1.FPEN: no traps of FP and SIMD
	msr	cpacr_el1, x2
	adr	x2, own			// make the VMM's instructions visible to fetches
	dc	cvau, x2
	dsb	ish
	ic	ivau, x2
	dsb	ish
	isb
	mov	x28, x1			// the argument block
	adr	x30, after
	ldp	x0, x1, [x28]
	ldp	x2, x3, [x28, #16]
	ldp	x4, x5, [x28, #32]
	ldp	x6, x7, [x28, #48]
	b	own

	.org	0x100			// in one cache line, of 64 bytes or more
own:	.rept	8
	udf	#0
	.endr
after:	mov	w9, #1
	mov	x10, xzr
	mov	x11, xzr
	mov	x12, xzr
done:	stp	x0, x1, [x28]
	stp	x2, x3, [x28, #16]
	stp	x4, x5, [x28, #32]
	stp	x6, x7, [x28, #48]
	stp	w9, w10, [x28, #64]
	stp	x11, x12, [x28, #72]
	dsb	sy
	movz	w0, #0x8400, lsl #16	// PSCI SYSTEM_OFF
	movk	w0, #0x0008
	hvc	#0

	.org	0x200			// Synchronous exception, current EL with SP_ELx
	mov	w9, #2
caught:	mrs	x10, esr_el1
	mrs	x11, far_el1
	mrs	x12, elr_el1
	b	done

	.org	0x380			// SError, current EL with SP_ELx
	mov	w9, #3
	b	caught
