package iommu

// Part is a mapping as nobody can make it outside: a part of m.
func Part(m Mapping, off, size uint64) Mapping {
	m.iova += off
	m.size = size
	return m
}

// Closed says whether Close has succeeded.
func (d *Domain) Closed() bool {
	d.life.Lock()
	defer d.life.Unlock()
	return d.gone
}

// SetClosing is Region.Close at the moment when it has told those who have found the region already.
func (r *Region) SetClosing(on bool) { r.closing.Store(on) }
