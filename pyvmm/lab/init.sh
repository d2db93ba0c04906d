#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-only
#
# The emulated host's first process. It mounts the root image and the shares, hands the devices
# to vfio, runs the one command in /job with its streams on virtio ports, says on the control
# port how it ended, and powers off. Whoever starts it reads: `kvm`, then `exit STATUS`; or
# `fail REASON` when the command could not be run.

export PATH=/bin
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
echo "pyvmm: init at $(cut -d' ' -f1 /proc/uptime) s"

# A stock kernel's modules, in the order in which they need each other.
if [ -e /modules/order ]; then
    while read -r module; do insmod "/modules/$module"; done </modules/order
fi

# The ports' numbers are those of the emulated machine's description.
control=/dev/vport0p1 out=/dev/vport0p2 err=/dev/vport0p3 compiled=/dev/vport0p4

finish() {
    echo "$*" >$control
    poweroff -f
    sleep 60
}

. /job

date -s "@$NOW" >/dev/null
touch /now
mount -t erofs -o ro /dev/vda /host || finish fail "the root image cannot be mounted"
for directory in dev proc sys pycache; do mount --bind /$directory /host/$directory; done
for directory in tmp run root; do mount -t tmpfs tmpfs /host/$directory; done
for share in $SHARES; do # TAG=DIRECTORY
    place=/host${share#*=}
    mkdir -p "$place"
    mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro "${share%%=*}" "$place" ||
        finish fail "what is shared as ${share#*=} cannot be mounted"
done
mkdir /dev/shm /dev/pts /dev/hugepages
mount -t tmpfs tmpfs /host/dev/shm
mount -t devpts devpts /host/dev/pts
mount -t hugetlbfs hugetlbfs /host/dev/hugepages
mount -t debugfs debugfs /host/sys/kernel/debug
mount -t tracefs tracefs /host/sys/kernel/tracing

# A command that needs KVM is no judge of a kernel that has none.
[ -e /dev/kvm ] || finish fail "this kernel has no KVM: there is no /dev/kvm in it"
echo kvm >$control

for binding in $BINDINGS; do # ADDRESS=DRIVER
    address=${binding%=*} driver=${binding#*=}
    device=/sys/bus/pci/devices/$address
    [ -e "$device" ] || finish fail "there is no PCI device $address"
    [ -e "/sys/bus/pci/drivers/$driver" ] || finish fail "this kernel has no driver $driver"
    if [ "$driver" = nvgrace_gpu_vfio_pci ]; then
        # The driver waits until two words of BAR0 say that the GPU is up; this BAR is memory.
        echo 1 >$device/enable
        bar0=$(cut -d' ' -f1 $device/resource | head -n1)
        for offset in 0x1498 0x200BC; do
            chroot /host /bin/busybox devmem $((bar0 + offset)) 32 0xFF
        done
    fi
    echo "$driver" >$device/driver_override
    [ ! -e $device/driver ] || echo "$address" >$device/driver/unbind
    echo "$address" >/sys/bus/pci/drivers_probe
    [ -e $device/driver ] || finish fail "$driver did not take $address"
done

run() {
    export PATH=/usr/sbin:/usr/bin:/run/bin HOME=/root LANG=C.UTF-8
    export PYTHONPATH=/checkout:/run/site PYTHONPYCACHEPREFIX=/pycache PYVMM_LAB=1
    export XDG_CACHE_HOME=/pycache
    # A terminal's command leads a session of its own, so that Ctrl-C reaches what it runs.
    exec ${TERMINAL:+/bin/busybox setsid -c} /bin/busybox chroot /host /bin/busybox sh -c 'cd "$0"; exec "$@"' "$DIRECTORY" "$@"
}
mkdir -p /host/run/bin /host/run/files
cp -r /files/. /host/run/files
mount --bind /bin /host/run/bin

echo "pyvmm: command at $(cut -d' ' -f1 /proc/uptime) s"
if [ "$TERMINAL" ]; then
    stty -F /dev/hvc0 rows "$ROWS" cols "$COLUMNS"
    (run "$@") </dev/hvc0 >/dev/hvc0 2>&1
    finish exit $?
fi
mkfifo /run.out /run.err
cat /run.out >$out &
out_pump=$!
cat /run.err >$err &
err_pump=$!
(run "$@") </dev/null >/run.out 2>/run.err
status=$?
# What the command left running holds its streams open: end it, then drain them.
for process in /proc/[0-9]*; do
    pid=${process##*/}
    case " 1 $out_pump $err_pump " in *" $pid "*) ;; *) kill -9 "$pid" 2>/dev/null ;; esac
done
wait
cd /pycache && find . \( -name '*.pyc' -o -name '*.bin' \) -newer /now >/new && [ -s /new ] && xargs tar -c -f - </new >$compiled
echo "pyvmm: exit $status at $(cut -d' ' -f1 /proc/uptime) s"
finish exit $status
