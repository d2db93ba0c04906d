# SPDX-License-Identifier: GPL-2.0-only
# spin: loop endlessly without an exit. Only the host can stop it.

1:	jmp	1b
