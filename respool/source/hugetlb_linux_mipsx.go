//go:build linux && (mips || mipsle || mips64 || mips64le)

package source

// mapHugeTLB is MAP_HUGETLB of arch/mips/include/uapi/asm/mman.h.
const mapHugeTLB = 0x80000
