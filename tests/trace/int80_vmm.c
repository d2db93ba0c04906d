// SPDX-License-Identifier: GPL-2.0-only
// Registers a memslot through i386 system calls, in a 32-bit or a 64-bit program. Needs no libc.
#define OPEN 5
#define CLOSE 6
#define EXIT 1
#define IOCTL 54
#define MUNMAP 91
#define MMAP2 192
#define RW 3
#define SHARED_ANONYMOUS 0x21
#define KVM_GET_API_VERSION 0xae00
#define KVM_CREATE_VM 0xae01
#define KVM_SET_USER_MEMORY_REGION 0x4020ae46

static unsigned region[8] = {0, 0, 0x100000, 0, 0x2000, 0, 0, 0};

static int call(int number, int a, int b, int c, int d, int e, int f)
{
	int result;

	// Six arguments: the last one is in ebp, which the compiler does not give away.
#ifdef __i386__
	int last[2] = {f, number};
	asm volatile("push %%ebp; mov (%%eax), %%ebp; mov 4(%%eax), %%eax; int $0x80; pop %%ebp"
		     : "=a"(result)
		     : "a"(last), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
		     : "memory");
#else
	asm volatile("push %%rbp; mov %7, %%ebp; int $0x80; pop %%rbp"
		     : "=a"(result)
		     : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e), "r"(f)
		     : "memory", "r8", "r9", "r10", "r11");
#endif
	return result;
}

void _start(void)
{
	int kvm = call(OPEN, (int)(long)"/dev/kvm", 2, 0, 0, 0, 0);
	int version = call(IOCTL, kvm, KVM_GET_API_VERSION, 0, 0, 0, 0);
	int vm = call(IOCTL, kvm, KVM_CREATE_VM, 0, 0, 0, 0);
	int failed;

	region[6] = call(MMAP2, 0, 0x2000, RW, SHARED_ANONYMOUS, -1, 0);
	failed = call(IOCTL, vm, KVM_SET_USER_MEMORY_REGION, (int)(long)region, 0, 0, 0);
	call(MUNMAP, region[6], 0x1000, 0, 0, 0, 0);
	call(CLOSE, vm, 0, 0, 0, 0, 0);
	call(EXIT, version != 12 || failed, 0, 0, 0, 0, 0);
}
