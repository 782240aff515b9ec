// Command educopy is a small driver, complete: a service that copies memory by an edu device. Copies are
// submitted to a queue; a copy is mapped for the device where it is submitted, which never sleeps, moved
// through the device's buffer by DMA that an interrupt ends, and unmapped.
//
//	go run ./examples/educopy --on model|qtest|vm|vfio
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"strings"

	"gommu/iommu"
	"gommu/qemu-tests/rung"
	"gommu/vfio/edu"
)

func main() { rung.Main(run) }

func run(ctx context.Context) error {
	on := flag.String("on", "model", "rung: "+strings.Join(rung.Names(), ", "))
	flag.Parse()
	opts := rung.Options{Domain: iommu.Options{Name: "educopy", Flush: iommu.Flush{Policy: iommu.Batched}}}
	return rung.Run(ctx, *on, opts, demonstrate)
}

// A service copies memory that is registered in its domain.
type service struct {
	domain *iommu.Domain
	device *edu.Device
	queue  chan job
	ended  chan struct{}
}

// A job is a copy that was submitted.
type job struct {
	from, to iommu.Mapping
	done     chan<- error
}

var errFull = errors.New("the queue is full: wait for a copy to end")

// start opens the device and serves copies until stop.
func start(ctx context.Context, m *rung.Machine) (*service, error) {
	device, err := edu.Open(m.Function, edu.Options{DMAMask: m.Mask, Interrupt: m.Interrupt})
	if err != nil {
		return nil, err
	}
	s := &service{m.Domain, device, make(chan job, 16), make(chan struct{})}
	go func() {
		defer close(s.ended)
		for j := range s.queue {
			j.done <- s.copy(ctx, j)
		}
	}()
	return s, nil
}

// submit queues a copy. It sleeps neither for the mappings nor for the queue; done gets the outcome.
func (s *service) submit(dst, src []byte, done chan<- error) error {
	if len(dst) != len(src) {
		return fmt.Errorf("copy of %d bytes to %d", len(src), len(dst))
	}
	from, err := s.domain.Map(src, iommu.ToDevice)
	if err != nil {
		return err
	}
	to, err := s.domain.Map(dst, iommu.FromDevice)
	if err != nil {
		return errors.Join(err, s.domain.Unmap(from))
	}
	select {
	case s.queue <- job{from, to, done}:
		return nil
	default:
		return errors.Join(errFull, s.domain.Unmap(from), s.domain.Unmap(to))
	}
}

// copy has the device read and write piece by piece, and takes the mappings away.
func (s *service) copy(ctx context.Context, j job) (err error) {
	defer func() { err = errors.Join(err, s.domain.Unmap(j.from), s.domain.Unmap(j.to)) }()
	for off := uint64(0); off < j.from.Size(); off += edu.MaxTransfer {
		n := int(min(edu.MaxTransfer, j.from.Size()-off))
		if err := s.device.ReadMemory(ctx, j.from.IOVA()+off, 0, n); err != nil {
			return err
		}
		if err := s.device.WriteMemory(ctx, j.to.IOVA()+off, 0, n); err != nil {
			return err
		}
	}
	return nil
}

// stop waits for the copies that were submitted, and stops the device.
func (s *service) stop() error {
	close(s.queue)
	<-s.ended
	return s.device.Close()
}

// demonstrate copies random bytes in some sizes and compares them.
func demonstrate(ctx context.Context, m *rung.Machine) (err error) {
	const size, copies = 64 << 10, 8
	mem, err := m.Memory.Alloc(ctx, 2*size)
	if err != nil {
		return err
	}
	region, err := m.Domain.Register(ctx, mem, iommu.Bidirectional)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, region.Close(), m.Memory.Free(mem)) }()
	s, err := start(ctx, m)
	if err != nil {
		return err
	}
	src, dst := mem[:size], mem[size:]
	rand.Read(src)
	done, total := make(chan error, copies), 0
	for i := range copies {
		n := 1 << (i + 6) // 64 bytes to 8 KiB
		err = errors.Join(err, s.submit(dst[total:][:n], src[total:][:n], done))
		total += n
	}
	for range copies {
		if err == nil {
			err = <-done
		}
	}
	if err = errors.Join(err, s.stop()); err != nil {
		return err
	}
	if !bytes.Equal(dst[:total], src[:total]) || !bytes.Equal(dst[total:], make([]byte, size-total)) {
		return errors.New("the bytes did not arrive, or others did")
	}
	fmt.Printf("%s: %d copies, %d bytes, by device %v: compared, and nothing beside them written\n", m.Rung, copies, total, m.Function.Address())
	return nil
}
