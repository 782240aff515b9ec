package discipline

import "time"

// BeginClose closes d's gate for gets, as Close does first, and does nothing else yet.
func BeginClose(d Discipline[int]) {
	switch d := d.(type) {
	case *AllocatorFirst[int]:
		d.gate.state.Or(closing)
	case *PerCPU[int]:
		d.gate.state.Or(closing)
	case *Static[int]:
		d.gate.state.Or(closing)
	}
}

// BeginPut does the first half of a put to d. The second is left to do.
func BeginPut(d Discipline[int]) (settle func(e int), err error) {
	switch d := d.(type) {
	case *AllocatorFirst[int]:
		return d.settle, d.gate.back()
	case *PerCPU[int]:
		return d.Shard(0).settle, d.gate.back()
	case *Static[int]:
		return d.settle, d.gate.back()
	}
	return nil, nil
}

// HoldBell stops those who are about to wait before they have what a strike closes. put puts e into
// the stock, strikes, and lets them go on.
func HoldBell(d Discipline[int]) (put func(e int)) {
	var b *bell
	var s *stock[int]
	var g *gate
	switch d := d.(type) {
	case *AllocatorFirst[int]:
		b, s, g = d.bell, &d.reserve, d.gate
	case *PerCPU[int]:
		b, s, g = d.bell, &d.stocks[0], d.gate
	default:
		return nil
	}
	b.mu.Lock()
	return func(e int) {
		g.state.Add(^uint64(0)) // one less is out
		s.put(e)
		close(b.stroke) // what strike does, for which the lock would be too late
		b.stroke = make(chan struct{})
		b.mu.Unlock()
	}
}

// OnlyPutsWake keeps a wait of an AllocatorFirst from ending by time.
func OnlyPutsWake(d Discipline[int]) {
	if a, ok := d.(*AllocatorFirst[int]); ok {
		a.timeout = 24 * time.Hour
	}
}
