# SPDX-License-Identifier: GPL-2.0-only
# spin: loop for ever without an exit; only the host can stop it.

1:	jmp	1b
