package trace

// Slots is how many slots a histogram has: slot i counts what took from 2^i to 2^(i+1)-1 ns, the first also 0, the last all above.
const Slots = 40

// What programs in the kernel and this one share. The fields are exported for encoding/binary.

// A cell says what a tally is of.
type cell struct {
	Operation uint16
	Result    uint16
	Class     uint32 // of the size: its logarithm
	Process   uint32
	_         uint32
	Source    uint64
}

// A tally is what one processor has counted in a cell: calls, ns, the sum of the sizes, and the slots.
type tally [3 + Slots]uint64

// A note is an event in the ring buffer.
type note struct {
	At        uint64 // ns of the monotonic clock
	Operation uint16
	Result    uint16
	Stack     int32 // negative: none
	Process   uint32
	Thread    uint32
	Source    uint64
	IOVA      uint64
	Size      uint64 // of a fault: its PASID
	Time      uint64 // ns; of a fault: what was tried
	_         uint64
	Caller    uint64 // a return address
	Domain    uint64
}

// Where the parts of a program lie on its stack of 512 bytes.
const (
	cellSize  = 24
	tallySize = 8 * (3 + Slots)
	noteSize  = 80

	cellAt  = -cellSize
	tallyAt = cellAt - tallySize
	noteAt  = tallyAt - noteSize // 24 + 344 + 80 = 448
)

// Words of the map of losses.
const (
	lostCells  = iota // there was no room for a cell
	lostEvents        // there was no room in the ring buffer
	lostCalls         // a call of the kernel's whose start was not noted
	losses
)
