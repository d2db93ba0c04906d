#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-only
#
# The first process of the built-in guest. It lists the PCI functions, prints the MD5 sum of each
# disk, and powers off; with pyvmm.shell on the kernel command line, it starts a shell before that.

/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
say() { echo "pyvmm guest: $*"; }
say "init at $(cut -d' ' -f1 /proc/uptime) s on $(grep -c ^processor /proc/cpuinfo) CPUs"

if [ -e /modules/order ]; then
    while read -r module; do insmod "/modules/$module"; done </modules/order
fi

for function in /sys/bus/pci/devices/*; do
    [ -e "$function" ] || continue
    driver=none
    # A driver may still be probing.
    for attempt in 0 1 2 3 4 5 6 7 8 9; do
        [ ! -e "$function/driver" ] || { driver=$(basename "$(readlink "$function/driver")"); break; }
        usleep 20000
    done
    say "PCI ${function##*/} $(cat "$function/vendor"):$(cat "$function/device") driver $driver"
    [ $driver = nvme ] || continue
    for attempt in $(seq 100); do
        set -- "$function"/nvme/nvme*/nvme*n*
        [ ! -e "$1" ] || break
        usleep 100000
    done
    for disk in "$@"; do
        disk=/dev/${disk##*/}
        [ -e "$disk" ] || { say "PCI ${function##*/} has no disk"; continue; }
        say "$disk md5 $(md5sum <"$disk" | cut -d' ' -f1)"
    done
done

case " $(cat /proc/cmdline) " in
*" pyvmm.shell "*) setsid cttyhack sh ;;
esac
poweroff -f
