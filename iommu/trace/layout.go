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

// A tally is what one processor has counted in a cell: calls, ns, the sums of the sizes and of the items, and the slots.
type tally [heads + Slots]uint64

// Words of a tally before its slots.
const (
	callsWord = iota
	timeWord
	bytesWord
	itemsWord
	heads
)

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
	Time      uint64 // ns; of a fault of the kernel's: the upper half of the record
	Extra     uint64 // the direction or the items; of a fault: what was tried; of one of the kernel's: the unit's fault status
	Caller    uint64 // a return address
	Domain    uint64
}

// Where the parts of a program lie on its stack.
const (
	cellSize  = 24
	tallySize = 8 * (heads + Slots)
	noteSize  = 80

	cellAt = -cellSize
	noteAt = cellAt - noteSize
	freeAt = noteAt - 8*free

	free = 4 // words
)

// Where the fields of a cell are.
const (
	cellOperation = cellAt
	cellResult    = cellAt + 2
	cellClass     = cellAt + 4
	cellProcess   = cellAt + 8
	cellSource    = cellAt + 16
)

// Where the fields of a note are.
const (
	noteMoment    = noteAt
	noteOperation = noteAt + 8
	noteStack     = noteAt + 12
	noteProcess   = noteAt + 16
	noteThread    = noteAt + 20
	noteSource    = noteAt + 24
	noteIOVA      = noteAt + 32
	noteBytes     = noteAt + 40
	noteTime      = noteAt + 48
	noteExtra     = noteAt + 56
	noteCaller    = noteAt + 64
	noteDomain    = noteAt + 72
)

// statusOverflow is the bit of a unit's fault status (FSTS_REG) that says that it had no room (PFO).
const statusOverflow = 1 << 0

// nameSize is that of a process's name, with the 0 at its end (TASK_COMM_LEN).
const nameSize = 16

// Words of the map of losses.
const (
	lostCells  = iota // there was no room for a cell
	lostEvents        // there was no room in the ring buffer
	lostCalls         // a call of the kernel's whose start was not noted
	losses
)
