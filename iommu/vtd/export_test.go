package vtd

import "sync/atomic"

// OpenWithWriteBack is Open with another way to write cache lines back.
var OpenWithWriteBack = openUnit

// BindTable is Bind for tables that need not make sense.
func (u *Unit) BindTable(t Table) (*Binding, error) { return u.bind(t) }

// Looks is how many calls of Done in vain there are for one look at registers.
const Looks = looks

// StartAt makes n the number of the last submission. The unit is not enabled.
func (u *Unit) StartAt(n uint64) {
	u.number = n
	u.confirmed.Store(n)
	atomic.StoreUint64(&u.queue.status[0], uint64(uint32(n)))
	u.queue.ends[n%maxDescriptors] = 0
}
