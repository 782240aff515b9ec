package respool

import (
	"fmt"
	"math"
	"reflect"
)

// sized is o with ElemSize, if that is not set, from src or T.
func sized[T any](o Options, src Source[T]) Options {
	if s, ok := src.(Sizer); ok && o.ElemSize == 0 {
		o.ElemSize = max(0, s.ElemSize())
	}
	if o.ElemSize == 0 {
		o.ElemSize = int64(reflect.TypeFor[T]().Size())
	}
	return o
}

// limit lowers Max, where that is not set, to what fits into MaxBytes and into MaxShare of memory, and returns
// ErrLimit if the numbers that are set do not.
func (o *Options) limit(memory int64) error {
	if o.ElemSize == 0 {
		return nil
	}
	bytes, by := int64(math.MaxInt64), ""
	if memory > 0 {
		bytes, by = int64(o.MaxShare*float64(memory)), fmt.Sprintf("MaxShare (%v of %d bytes of memory)", o.MaxShare, memory)
	}
	if o.MaxBytes > 0 && o.MaxBytes < bytes {
		bytes, by = o.MaxBytes, "MaxBytes"
	}
	fit := int(min(bytes/o.ElemSize, maxElements))
	switch most := max(o.Max, o.Min, o.Low, o.High, o.Step, o.OrdinaryMark, 1); {
	case most > fit:
		return fmt.Errorf("%w: %w: %d elements of %d bytes are more than the %d bytes that %s allows: have at most %d elements, or raise it",
			ErrBadOptions, ErrLimit, most, o.ElemSize, bytes, by, fit)
	case o.Max == 0:
		o.Max = min(o.defaultMax(), fit)
	}
	return nil
}
