// Package stdlib calls the standard library. // want package:"nosleep"
package stdlib

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"
)

var (
	word  uint64
	value atomic.Value
	err0  = errors.New("x")
	p     atomic.Pointer[int]
)

//gommu:nosleep
func good(b []byte, d time.Duration, s string) bool {
	binary.LittleEndian.PutUint64(b, 1)
	binary.BigEndian.PutUint32(b, binary.LittleEndian.Uint32(b))
	_ = bits.TrailingZeros64(atomic.AddUint64(&word, 1))
	_ = math.Floor(d.Seconds()) + math.Sqrt(2) + math.Float64frombits(1)
	_ = slices.Contains(b, 1)
	_ = strings.IndexByte(s, 'x') + strings.Index(s, "y")
	_ = unsafe.Slice(unsafe.SliceData(b), 1)
	runtime.KeepAlive(&word)
	n := 1
	atomic.StoreUint64(&word, 2)
	_ = p.Load()
	runtime.KeepAlive(&n)
	return atomic.CompareAndSwapUint64(&word, 1, 2)
}

//gommu:nosleep
func bad(err error) {
	_ = errors.Is(err, err0)    // want `calls errors.Is`
	_ = fmt.Sprint("x")         // want `calls fmt.Sprint, which makes a text`
	value.Store("x")            // want `calls atomic.Value.Store, which waits for another goroutine's first store`
	runtime.GC()                // want `calls runtime.GC, which belongs to the scheduler or the collector`
	_ = strings.Repeat("x", 2)  // want `calls strings.Repeat, which allocates`
	_ = time.Since(time.Time{}) // want `calls time.Since`
}
