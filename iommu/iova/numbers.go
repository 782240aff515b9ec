package iova

// numbers are the window numbers that no window has, from 1 to most. What was never used comes last, so
// that tables by number are touched no further than they have to be.
type numbers struct {
	most, used uint32
	spare      []uint32
}

func (n *numbers) take() (uint32, bool) {
	if k := len(n.spare) - 1; k >= 0 {
		i := n.spare[k]
		n.spare = n.spare[:k]
		return i, true
	}
	if n.used == n.most {
		return 0, false
	}
	n.used++
	return n.used, true
}

func (n *numbers) put(i uint32) { n.spare = append(n.spare, i) }

// out is how many numbers are taken.
func (n *numbers) out() int { return int(n.used) - len(n.spare) }

// left is how many numbers are to be had.
func (n *numbers) left() int { return int(n.most-n.used) + len(n.spare) }
