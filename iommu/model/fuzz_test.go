package model_test

import (
	"encoding/binary"
	"testing"

	"gommu/iommu/model"
)

// FuzzUnit gives a unit random register accesses, tables and DMA: nothing panics,
// nothing hangs, and what a device reads through tables is what is in memory. The
// input is a configuration byte and then operations of 10 bytes: what to do, where,
// and a value.
func FuzzUnit(f *testing.F) {
	// Switching on, with an empty root table; DMA.
	f.Add(ops(0, op{0, regRTADDR, 0}, op{1, regGCMD, srtp}, op{1, regGCMD, te}, op{3, 0, 0x5000}))
	// A context entry and a table that points to itself.
	f.Add(ops(0, op{2, 2, 0x1001}, op{2, 512 + 1, 2 << 8}, op{2, 512, 0x2001}, op{2, 1024, 0x2003},
		op{1, regGCMD, srtp}, op{1, regGCMD, te}, op{4, 0, 0}, op{3, 0, 0x5000}))
	// The queue with a wait that writes its status into the queue.
	f.Add(ops(0, op{0, regIQA, 0x3000}, op{1, regGCMD, qie}, op{2, 3 * 512, 5 | 1<<5 | 7<<32}, op{2, 3*512 + 1, 0x3010}, op{0, regIQT, 32}))
	// Scalable mode: everything points to the same page.
	f.Add(ops(1, op{2, 0, 1}, op{2, 1, 1}, op{0, regRTADDR, 1 << 10}, op{1, regGCMD, srtp}, op{1, regGCMD, te}, op{5, 0, 0x5000}))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 {
			return
		}
		const pages = 16
		ram := frames(pages)
		w := words(ram)
		b := data[0]
		u, err := model.New(model.Config{RAM: ram, Scalable: b&1 != 0, Coherent: b&2 == 0, CachingMode: b&4 != 0,
			WriteBufferFlush: b&8 != 0, DeviceTLB: b&16 != 0, AccessedDirty: b&32 != 0, FaultRecords: 1 + int(b>>6), UnorderedFlushes: b&64 != 0})
		if err != nil {
			t.Fatal(err)
		}
		for data = data[1:]; len(data) >= 10; data = data[10:] {
			at, v := uint64(data[1]), binary.LittleEndian.Uint64(data[2:])
			at |= uint64(data[0]>>4) << 8
			d, buf := u.Device(uint16(at)), make([]byte, 1+v>>32%5000)
			switch data[0] & 0xf {
			case 0:
				u.Write64(at, v)
			case 1:
				u.Write32(at, uint32(v))
			case 2:
				i := int(at|v>>48<<12) % len(w)
				w[i] = v
				u.Flushed(w[i:][:1])
				u.Fenced()
			case 3:
				d.Read(v, buf)
			case 4:
				d.Write(v, buf)
			case 5:
				d.ReadPASID(uint32(at), v, buf)
			case 6:
				d.WritePASID(uint32(at), v, buf)
			case 7:
				u.Read64(at)
				u.Read32(at)
			case 8: // an aligned table entry that is present
				i := int(at|v>>48<<12) % len(w)
				w[i] = v%(pages<<12)&^0xfff | v&0x7ff | 3
				u.Flushed(w[i:][:1])
			}
		}
		u.Violations()
	})
}

type op struct {
	what byte
	at   int
	v    uint64
}

func ops(config byte, all ...op) []byte {
	b := []byte{config}
	for _, o := range all {
		b = append(b, o.what|byte(o.at>>8)<<4, byte(o.at))
		b = binary.LittleEndian.AppendUint64(b, o.v)
	}
	return b
}
