package iommu

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
)

const (
	budgetFirst = 80 // percent
	budgetStep  = 5
)

// budget counts the mappings that a kernel lets a domain have.
type budget struct {
	limit int // 0 if it is not known
	used  atomic.Int64
	peak  atomic.Int64 // since tell looked
	told  int          // how many marks are passed that were told of; of the worker
}

// take counts one more, or fails with ErrBudget.
func (b *budget) take() error {
	n := b.used.Add(1)
	if b.limit != 0 && n > int64(b.limit) {
		b.used.Add(-1)
		return fmt.Errorf("%w; the limit is %d: modprobe vfio_iommu_type1 dma_entry_limit=N raises it", ErrBudget, b.limit)
	}
	for {
		p := b.peak.Load()
		if n <= p || b.peak.CompareAndSwap(p, n) {
			return nil
		}
	}
}

func (b *budget) give() { b.used.Add(-1) }

// refused makes the kernel's own refusal one of this package, and keeps its errno.
func (b *budget) refused(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%w (others use the container, or the limit was lowered): %w", ErrBudget, err)
	}
	return err
}

// tell calls f if more marks were passed since it was called last. Only the worker calls it.
func (b *budget) tell(f func(used, limit int)) {
	used := b.used.Load()
	peak := max(b.peak.Swap(used), used)
	if b.limit == 0 || f == nil {
		return
	}
	if n := b.marks(peak); n > b.told {
		f(int(peak), b.limit)
	}
	b.told = b.marks(used)
}

// marks is how many marks n mappings pass.
func (b *budget) marks(n int64) int {
	over := int(n*100/int64(b.limit)) - budgetFirst
	if over < 0 {
		return 0
	}
	return over/budgetStep + 1
}
