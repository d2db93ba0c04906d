// SPDX-License-Identifier: GPL-2.0-only
// probe: make the accesses in a table, record the result of each, and power off.
//
// Argument block: u64 count, then records (pyvmm/guest/probe.py):
//	 0  u64 va
//	 8  u32 width: 1, 2, 4 or 8 bytes
//	12  u32 op: 0 read, 1 write
//	16  u64 value: to write, or the one read
//	24  u32 outcome: 1 ok, 2 abort
//	28  u32 syndrome: ESR_EL1, low word
//	32  u64 far: FAR_EL1
//
// The payload is its own vector table: it is page-aligned, so VBAR_EL1 can point to its first
// byte. Only the vector at 0x200 (synchronous, from EL1 with SP_EL1) can be taken, so the code
// occupies the vectors before it.

	adr	x2, .			// the payload's first byte
	msr	vbar_el1, x2
	isb
	ldr	x3, [x1], #8		// remaining records; x1: current record
next:	cbz	x3, off
	ldr	x4, [x1]		// va
	ldp	w5, w6, [x1, #8]	// width, op
	ldr	x7, [x1, #16]		// value
	mov	w8, #1			// outcome, unless the vector changes it
	mov	x9, xzr			// syndrome
	mov	x10, xzr		// far
	cbnz	w6, write

	cmp	w5, #2
	b.lo	read8
	b.eq	read16
	cmp	w5, #4
	b.eq	read32
	ldr	x7, [x4]
	b	done
read8:	ldrb	w7, [x4]
	b	done
read16:	ldrh	w7, [x4]
	b	done
read32:	ldr	w7, [x4]
	b	done

write:	cmp	w5, #2
	b.lo	write8
	b.eq	write16
	cmp	w5, #4
	b.eq	write32
	str	x7, [x4]
	b	done
write8:	strb	w7, [x4]
	b	done
write16:	strh	w7, [x4]
	b	done
write32:	str	w7, [x4]

done:	dsb	sy			// complete the access before recording it
	str	x7, [x1, #16]
	stp	w8, w9, [x1, #24]
	str	x10, [x1, #32]
	add	x1, x1, #40
	sub	x3, x3, #1
	b	next

off:	movz	w0, #0x8400, lsl #16	// PSCI SYSTEM_OFF
	movk	w0, #0x0008
	hvc	#0

	.org	0x200			// Synchronous exception, current EL with SP_ELx
	mov	w8, #2
	mrs	x9, esr_el1
	mrs	x10, far_el1
	mrs	x11, elr_el1		// skip the instruction that aborted
	add	x11, x11, #4
	msr	elr_el1, x11
	eret
