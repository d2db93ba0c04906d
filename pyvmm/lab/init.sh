#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-only
#
# The first process of the emulated host. It mounts the root image and the shares, binds the
# devices to their vfio drivers, runs the command in /job with its output on virtio ports, and
# powers off. On the control port it writes `kvm` when it has found KVM, then `exit STATUS`, or
# `fail REASON` if it cannot run the command; it reads `signal NUMBER`, for the command.

export PATH=/bin
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
echo "pyvmm: init at $(cut -d' ' -f1 /proc/uptime) s"

# The modules of a distribution kernel, in the order of their dependencies.
if [ -e /modules/order ]; then
    while read -r module; do insmod "/modules/$module"; done </modules/order
fi

# The port numbers are assigned in virtio_ports.py.
control=/dev/vport0p1 out=/dev/vport0p2 err=/dev/vport0p3 compiled=/dev/vport0p4
stdin=/dev/vport0p5

exec 3<>$control # only one process at a time can open a port

finish() {
    echo "$*" >&3
    poweroff -f
    sleep 60
}

. /job

date -s "@$NOW" >/dev/null
touch /now
mount -t erofs -o ro /dev/vda /host || finish fail "cannot mount the root image"
for directory in dev proc sys pycache; do mount --bind /$directory /host/$directory; done
for directory in tmp run root; do mount -t tmpfs tmpfs /host/$directory; done
for share in $SHARES; do # TAG=DIRECTORY
    place=/host${share#*=}
    mkdir -p "$place"
    mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro "${share%%=*}" "$place" ||
        finish fail "cannot mount the share ${share#*=}"
done
mkdir /dev/shm /dev/pts /dev/hugepages
mount -t tmpfs tmpfs /host/dev/shm
mount -t devpts devpts /host/dev/pts
mount -t hugetlbfs hugetlbfs /host/dev/hugepages
mount -t debugfs debugfs /host/sys/kernel/debug
mount -t tracefs tracefs /host/sys/kernel/tracing
[ ! -e /sys/fs/cgroup ] || mount -t cgroup2 cgroup2 /host/sys/fs/cgroup

# Report a kernel without KVM here: the command would report it less clearly.
[ -e /dev/kvm ] || finish fail "this kernel has no KVM: /dev/kvm does not exist"
if [ "$MODE" ]; then
    # The line is from kvm_arm_init (arch/arm64/kvm/arm.c), since 6.1.
    log=$(dmesg | sed -n 's/.*kvm \[[0-9]*\]: \(.*\) mode initialized successfully.*/\1/p')
    case $log in
    VHE) mode=vhe ;;
    VHE+NV*) mode=nested ;;
    Protected*) mode=protected ;;
    Hyp*) mode=nvhe ;;
    *) mode=unknown ;;
    esac
    [ $mode = "$MODE" ] || finish fail "KVM does not run in mode $MODE but in mode $mode; its log says: ${log:-nothing}"
fi
echo kvm >&3

for binding in $BINDINGS; do # ADDRESS=DRIVER
    address=${binding%=*} driver=${binding#*=}
    device=/sys/bus/pci/devices/$address
    [ -e "$device" ] || finish fail "PCI device $address does not exist"
    [ -e "/sys/bus/pci/drivers/$driver" ] || finish fail "this kernel has no driver $driver"
    if [ "$driver" = nvgrace_gpu_vfio_pci ]; then
        # The driver polls two registers in BAR0 until the GPU is ready; this BAR0 is memory.
        echo 1 >$device/enable
        bar0=$(cut -d' ' -f1 $device/resource | head -n1)
        for offset in 0x1498 0x200BC; do
            chroot /host /bin/busybox devmem $((bar0 + offset)) 32 0xFF
        done
    fi
    echo "$driver" >$device/driver_override
    [ ! -e $device/driver ] || echo "$address" >$device/driver/unbind
    echo "$address" >/sys/bus/pci/drivers_probe
    [ -e $device/driver ] || finish fail "cannot bind $address to $driver"
done

run() {
    export PATH=/usr/sbin:/usr/bin:/run/bin HOME=/root LANG=C.UTF-8
    export PYTHONPATH=/checkout:/run/site PYTHONPYCACHEPREFIX=/pycache PYVMM_LAB=1
    export XDG_CACHE_HOME=/pycache
    # The command leads its own session, so that a signal, or Ctrl-C, reaches its children too.
    exec 3>&- /bin/busybox setsid ${TERMINAL:+-c} /bin/busybox chroot /host /bin/busybox sh -c 'echo $$ >/run/command; cd "$0"; exec "$@"' "$DIRECTORY" "$@"
}
mkdir -p /host/run/bin /host/run/files
cp -r /files/. /host/run/files
ln -s "kernel/$IMAGE" /host/run/Image
mount --bind /bin /host/run/bin

dmesg -n 8 # from here on, the console shows the whole log
echo "pyvmm: command at $(cut -d' ' -f1 /proc/uptime) s"
if [ "$TERMINAL" ]; then
    stty -F /dev/hvc0 rows "$ROWS" cols "$COLUMNS"
    (run "$@") </dev/hvc0 >/dev/hvc0 2>&1
    finish exit $?
fi
while read -r _ number <&3; do
    kill "-$number" "-$(cat /host/run/command)"
done &
mkfifo /run.out /run.err
cat /run.out >$out &
out_pump=$!
cat /run.err >$err &
err_pump=$!
(run "$@") <"$STDIN" >/run.out 2>/run.err
status=$?
# Background processes of the command hold its output open: kill them, then drain the output.
for process in /proc/[0-9]*; do
    pid=${process##*/}
    case " 1 $out_pump $err_pump " in *" $pid "*) ;; *) kill -9 "$pid" 2>/dev/null ;; esac
done
wait
cd /pycache && find . \( -name '*.pyc' -o -name '*.bin' \) -newer /now >/new && [ -s /new ] && xargs tar -c -f - </new >$compiled
echo "pyvmm: exit $status at $(cut -d' ' -f1 /proc/uptime) s"
finish exit $status
