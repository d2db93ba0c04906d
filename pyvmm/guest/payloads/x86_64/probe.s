# SPDX-License-Identifier: GPL-2.0-only
# probe: make the accesses in a table, record the result of each, and halt.
#
# Argument block: u64 count, then records (pyvmm/guest/probe.py):
#	 0  u64 va
#	 8  u32 width: 1, 2, 4 or 8 bytes
#	12  u32 op: 0 read, 1 write
#	16  u64 value: to write, or the one read
#	24  u32 outcome: 1 ok, 2 abort
#	28  u32 syndrome: vector << 16 | error code
#	32  u64 far: CR2
#
# Each access is one instruction at the start of a three-byte slot, so that the handler can skip
# it without decoding it.

	lea	stack(%rip), %rsp
	lea	general_protection(%rip), %rax
	mov	$13, %ecx
	call	gate
	lea	page_fault(%rip), %rax
	mov	$14, %ecx
	call	gate
	lea	idt(%rip), %rax
	mov	%rax, idtr+2(%rip)
	lidt	idtr(%rip)

	mov	(%rsi), %rcx		# remaining records
	add	$8, %rsi		# current record
next:	test	%rcx, %rcx
	jz	off
	mov	(%rsi), %rdx		# va
	mov	8(%rsi), %ebx		# width
	mov	16(%rsi), %rax		# value
	mov	$1, %r8d		# outcome, unless the handler changes it
	xor	%r9d, %r9d		# syndrome
	xor	%r10d, %r10d		# far
	cmpl	$0, 12(%rsi)
	jne	write

	cmp	$2, %ebx
	jb	read8
	je	read16
	cmp	$4, %ebx
	je	read32
	mov	(%rdx), %rax
	jmp	done
read8:	movzbl	(%rdx), %eax
	jmp	done
read16:	movzwl	(%rdx), %eax
	jmp	done
read32:	mov	(%rdx), %eax
	nop				# fill the slot
	jmp	done

write:	cmp	$2, %ebx
	jb	write8
	je	write16
	cmp	$4, %ebx
	je	write32
	mov	%rax, (%rdx)
	jmp	done
write8:	mov	%al, (%rdx)
	nop
	jmp	done
write16:	mov	%ax, (%rdx)
	jmp	done
write32:	mov	%eax, (%rdx)
	nop

done:	mov	%rax, 16(%rsi)
	mov	%r8d, 24(%rsi)
	mov	%r9d, 28(%rsi)
	mov	%r10, 32(%rsi)
	add	$40, %rsi
	dec	%rcx
	jmp	next

off:	hlt

# Set the gate of vector %ecx to the handler %rax.
gate:	shl	$4, %ecx
	lea	idt(%rip), %rbx
	add	%rcx, %rbx
	mov	%ax, (%rbx)		# offset 15:0
	mov	%cs, 2(%rbx)
	movw	$0x8e00, 4(%rbx)	# present, interrupt gate
	shr	$16, %rax
	mov	%ax, 6(%rbx)		# offset 31:16
	shr	$16, %rax
	mov	%eax, 8(%rbx)		# offset 63:32
	ret

general_protection:
	mov	$13 << 16, %r9d
	jmp	abort
page_fault:
	mov	$14 << 16, %r9d
	mov	%cr2, %r10
abort:	mov	$2, %r8d
	or	(%rsp), %r9d		# pop the error code before iretq
	add	$8, %rsp
	addq	$3, (%rsp)		# skip the access
	iretq

idtr:	.word	15 * 16 - 1
	.quad	0
	.balign	16, 0
idt:	.fill	15 * 16, 1, 0
	.fill	64, 1, 0
stack:
