/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What loader(8) does for a FreeBSD kernel: QEMU's -kernel starts this as a multiboot image, which has the kernel in it
 * (kernel.bin, to lie from 2 MiB on).  It maps the first GiB at every GiB, and says where the kernel finds its metadata.
 *
 * ENTRY: the kernel's.  META: first page behind it, of memory; two pages.  MEMORY: bytes of the guest's.
 */
#define LOAD		0x100000
#define TABLES		0x180000	/* three pages; then the stack grows down to them */
#define STACK		0x190000
#define KERNEND		(META + 0x2000)

	.code32
	.text
base:
	.long 0x1badb002, 0x10000, -(0x1badb002 + 0x10000)
	.long LOAD, LOAD, end, KERNEND, start
start:
	cli
	cld
	movl $meta, %esi
	movl $META, %edi
	movl $0x2000, %ecx
	rep movsb
	xorl %ebx, %ebx
1:	movl $TABLES + 0x1003, TABLES(,%ebx,8)
	movl $0, TABLES + 4(,%ebx,8)
	movl $TABLES + 0x2003, TABLES + 0x1000(,%ebx,8)
	movl $0, TABLES + 0x1004(,%ebx,8)
	movl %ebx, %eax
	shll $21, %eax
	orl $0x83, %eax
	movl %eax, TABLES + 0x2000(,%ebx,8)
	movl $0, TABLES + 0x2004(,%ebx,8)
	incl %ebx
	cmpl $512, %ebx
	jne 1b
	movl %cr4, %eax
	orl $0x20, %eax			/* PAE */
	movl %eax, %cr4
	movl $TABLES, %eax
	movl %eax, %cr3
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x100, %eax		/* LME */
	wrmsr
	lgdt gdtr
	movl %cr0, %eax
	orl $0x80000001, %eax		/* PG, PE */
	movl %eax, %cr0
	ljmp $8, $long_mode
	.code64
long_mode:
	movl $16, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	movl $STACK - 16, %esp
	movl $META, 4(%rsp)
	movl $KERNEND, 8(%rsp)
	movabsq $ENTRY, %rax
	jmp *%rax

	.align 8
gdt:	.quad 0, 0x00af9a000000ffff, 0x00cf92000000ffff
gdtr:	.word 23
	.long gdt

	.macro string kind, text
	.long \kind, 9f - 8f
8:	.asciz "\text"
9:	.align 8
	.endm
	.macro number kind, value
	.long \kind, 8
	.quad \value
	.endm

	/* A page with MODINFO_NAME, _TYPE, _ADDR, _SIZE and metadata, and one with the environment. */
	.align 8
meta:
	string 1, "kernel"
	string 2, "elf kernel"
	number 3, 0x200000
	number 4, META - 0x200000
	.long 0x8007, 4, 0x1000, 0	/* boothowto: serial */
	number 0x8006, META + 0x1000
	number 0x8008, KERNEND
	.long 0x9001, 60		/* SMAP */
	.quad 0, 0x9fc00
	.long 1
	.quad 0x9fc00, 0x100000 - 0x9fc00
	.long 2
	.quad 0x100000, MEMORY - 0x200000
	.long 1
	.align 8
	.long 0, 0
	.org meta - base + 0x1000
	.asciz "hint.uart.0.at=isa"
	.asciz "hint.uart.0.port=0x3F8"
	.asciz "hint.uart.0.flags=0x10"
	.asciz "hint.uart.0.irq=4"
	.asciz "console=comconsole"
	.asciz "vfs.root.mountfrom=ufs:/dev/vtbd0"
	.asciz "debug.debugger_on_panic=0"
	.asciz "hw.rvmrpc.allow=*.*"
	.asciz "hw.rvmrpc.user=1"
	.asciz "hw.rvmrpc.fs_allow=/srv/tree:/srv/tmp"
	.byte 0
	.org meta - base + 0x2000
	.org 0x200000 - LOAD
	.incbin "kernel.bin"
end:
