package respool

import "testing"

// BenchmarkReserve takes 32 elements at once and draws and puts them one by one. A call
// counts as one: divide by 32.
func BenchmarkReserve(b *testing.B) {
	v := newVault(b)
	p := open(b, v, Options{Min: 1024, Low: 1024, High: 1024, Max: 1024})
	b.ReportAllocs()
	for b.Loop() {
		r, err := p.Reserve(32)
		if err != nil {
			b.Fatal(err)
		}
		for range 32 {
			e, err := r.Get()
			if err != nil {
				b.Fatal(err)
			}
			if err := p.Put(e); err != nil {
				b.Fatal(err)
			}
		}
	}
	end(b, p, v)
}

// BenchmarkReserveReturn takes 32 elements at once and gives them back.
func BenchmarkReserveReturn(b *testing.B) {
	v := newVault(b)
	p := open(b, v, Options{Min: 1024, Low: 1024, High: 1024, Max: 1024})
	b.ReportAllocs()
	for b.Loop() {
		r, err := p.Reserve(32)
		if err != nil {
			b.Fatal(err)
		}
		if err := r.Return(); err != nil {
			b.Fatal(err)
		}
	}
	end(b, p, v)
}
