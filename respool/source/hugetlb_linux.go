//go:build !mips && !mipsle && !mips64 && !mips64le

package source

// mapHugeTLB is MAP_HUGETLB of uapi/asm-generic/mman-common.h, which package syscall lacks on arm.
const mapHugeTLB = 0x40000
