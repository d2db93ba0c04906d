# SPDX-License-Identifier: GPL-2.0-only
"""The encodings of system registers: name → (op0, op1, CRn, CRm, op2).

They are from the Arm ARM (DDI 0487), chapter D24; a test compares them with the assembler's. The
table has the registers that matter to a VMM: memory, exceptions, identification and timers.
"""

SYSREGS: dict[str, tuple[int, int, int, int, int]] = {
    # Identification
    "MIDR_EL1": (3, 0, 0, 0, 0),
    "MPIDR_EL1": (3, 0, 0, 0, 5),
    "REVIDR_EL1": (3, 0, 0, 0, 6),
    "ID_AA64PFR0_EL1": (3, 0, 0, 4, 0),
    "ID_AA64PFR1_EL1": (3, 0, 0, 4, 1),
    "ID_AA64PFR2_EL1": (3, 0, 0, 4, 2),
    "ID_AA64ZFR0_EL1": (3, 0, 0, 4, 4),
    "ID_AA64SMFR0_EL1": (3, 0, 0, 4, 5),
    "ID_AA64FPFR0_EL1": (3, 0, 0, 4, 7),
    "ID_AA64DFR0_EL1": (3, 0, 0, 5, 0),
    "ID_AA64DFR1_EL1": (3, 0, 0, 5, 1),
    "ID_AA64AFR0_EL1": (3, 0, 0, 5, 4),
    "ID_AA64AFR1_EL1": (3, 0, 0, 5, 5),
    "ID_AA64ISAR0_EL1": (3, 0, 0, 6, 0),
    "ID_AA64ISAR1_EL1": (3, 0, 0, 6, 1),
    "ID_AA64ISAR2_EL1": (3, 0, 0, 6, 2),
    "ID_AA64ISAR3_EL1": (3, 0, 0, 6, 3),
    "ID_AA64MMFR0_EL1": (3, 0, 0, 7, 0),
    "ID_AA64MMFR1_EL1": (3, 0, 0, 7, 1),
    "ID_AA64MMFR2_EL1": (3, 0, 0, 7, 2),
    "ID_AA64MMFR3_EL1": (3, 0, 0, 7, 3),
    "ID_AA64MMFR4_EL1": (3, 0, 0, 7, 4),
    "CLIDR_EL1": (3, 1, 0, 0, 1),
    "CSSELR_EL1": (3, 2, 0, 0, 0),
    "CTR_EL0": (3, 3, 0, 0, 1),
    "DCZID_EL0": (3, 3, 0, 0, 7),
    # Control
    "SCTLR_EL1": (3, 0, 1, 0, 0),
    "ACTLR_EL1": (3, 0, 1, 0, 1),
    "CPACR_EL1": (3, 0, 1, 0, 2),
    "SCTLR2_EL1": (3, 0, 1, 0, 3),
    "MDSCR_EL1": (2, 0, 0, 2, 2),
    "HCR_EL2": (3, 4, 1, 1, 0),
    # Translation
    "TTBR0_EL1": (3, 0, 2, 0, 0),
    "TTBR1_EL1": (3, 0, 2, 0, 1),
    "TCR_EL1": (3, 0, 2, 0, 2),
    "TCR2_EL1": (3, 0, 2, 0, 3),
    "MAIR_EL1": (3, 0, 10, 2, 0),
    "MAIR2_EL1": (3, 0, 10, 2, 1),
    "PIRE0_EL1": (3, 0, 10, 2, 2),
    "PIR_EL1": (3, 0, 10, 2, 3),
    "POR_EL1": (3, 0, 10, 2, 4),
    "AMAIR_EL1": (3, 0, 10, 3, 0),
    "POR_EL0": (3, 3, 10, 2, 4),
    "CONTEXTIDR_EL1": (3, 0, 13, 0, 1),
    # Exceptions
    "AFSR0_EL1": (3, 0, 5, 1, 0),
    "AFSR1_EL1": (3, 0, 5, 1, 1),
    "ESR_EL1": (3, 0, 5, 2, 0),
    "FAR_EL1": (3, 0, 6, 0, 0),
    "PAR_EL1": (3, 0, 7, 4, 0),
    "VBAR_EL1": (3, 0, 12, 0, 0),
    "DISR_EL1": (3, 0, 12, 1, 1),
    # Threads
    "TPIDR_EL1": (3, 0, 13, 0, 4),
    "TPIDR_EL0": (3, 3, 13, 0, 2),
    "TPIDRRO_EL0": (3, 3, 13, 0, 3),
    # Timers
    "CNTKCTL_EL1": (3, 0, 14, 1, 0),
    "CNTPCT_EL0": (3, 3, 14, 0, 1),
    "CNTP_CTL_EL0": (3, 3, 14, 2, 1),
    "CNTP_CVAL_EL0": (3, 3, 14, 2, 2),
    "CNTV_CTL_EL0": (3, 3, 14, 3, 1),
    # KVM swapped the ids of these two by mistake, and that became ABI: see the note on
    # KVM_REG_ARM_TIMER_CVAL in Documentation/virt/kvm/api.rst. The names are the values' own.
    "CNTV_CVAL_EL0": (3, 3, 14, 0, 2),
    "CNTVCT_EL0": (3, 3, 14, 3, 2),
}
