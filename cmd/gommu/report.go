//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"

	"gommu/iommu"
	"gommu/respool"
)

// A report is what a demonstration found. OK is true only when all of it held.
type report struct {
	OK        bool   `json:"ok"`
	Rung      string `json:"rung"`          // model, qtest, vm or vfio
	Why       string `json:"why,omitempty"` // why this rung, when none was asked for
	Device    string `json:"device"`        // the function that did the DMA
	Unit      unit   `json:"unit"`
	DMA       string `json:"dma"` // who wrote the tables that the DMA went through
	QEMU      string `json:"qemu,omitempty"`
	Kernel    string `json:"kernel,omitempty"`
	Transfers int    `json:"transfers"`

	// BytesVerified counts the random bytes that the device copied from one
	// mapped buffer to another and that were compared there.
	BytesVerified int `json:"bytes_verified"`

	// Fault is what was recorded for an access outside every mapping, and
	// BlockedBytes how many bytes that access moved all the same: none.
	Fault        *faultReport `json:"fault"`
	BlockedBytes int          `json:"blocked_bytes"`

	// StaleReached says that an unmapped page could still be reached before the flush of own tables, or
	// before the end of its registration where the kernel has the tables.
	StaleReached *bool `json:"stale_reached_before_invalidation,omitempty"`

	// StaleBlocked says that after unmap and invalidation the device no longer
	// reaches the page.
	StaleBlocked bool `json:"stale_blocked"`

	Pool      poolReport `json:"pool"`
	ElapsedMS int64      `json:"elapsed_ms"` // without the fetching of QEMU and kernel
	Error     string     `json:"error,omitempty"`
}

// unit is the IOMMU that stood between the device and memory.
type unit struct {
	Version string `json:"version"` // hexadecimal, major in bits 7:4
	Cap     string `json:"cap"`     // capability register, hexadecimal
	Ecap    string `json:"ecap"`    // extended capability register, hexadecimal
}

// faultReport is one blocked DMA request.
type faultReport struct {
	Reason    int    `json:"reason"`
	Text      string `json:"text"`
	IOVA      string `json:"iova"`
	Requester string `json:"requester"`
	Access    string `json:"access"`        // read or write
	Log       string `json:"log,omitempty"` // the kernel's own line, where a kernel recorded it
}

// poolReport is the pool that the mappings were fed from.
type poolReport struct {
	Of     string `json:"of"` // what its elements are
	Gets   uint64 `json:"gets"`
	Empty  uint64 `json:"empty"`
	Grown  uint64 `json:"grown"`
	Shrunk uint64 `json:"shrunk"`
	InUse  int    `json:"in_use"` // when the demonstration was over: 0
}

func reportPool(of string, s respool.Stats) poolReport {
	return poolReport{Of: of, Gets: s.Gets, Empty: s.Empty, Grown: s.Grown, Shrunk: s.Shrunk, InUse: s.InUse}
}

func reportFault(f iommu.Fault) *faultReport {
	access := "read"
	if f.Write {
		access = "write"
	}
	return &faultReport{
		Reason:    int(f.Reason),
		Text:      f.Text,
		IOVA:      fmt.Sprintf("%#x", f.IOVA),
		Requester: requester(f.Source),
		Access:    access,
	}
}

// finish closes a report: err is what went wrong, or nil.
func (r *report) finish(err error) {
	r.OK = err == nil
	if err != nil {
		r.Error = err.Error()
	}
}

// write prints the report, as one JSON object or for people.
func (r *report) write(w io.Writer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	return r.text(w)
}

func (r *report) text(w io.Writer) error {
	p := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	switch {
	case r.Why != "":
		p("rung       %s: %s", r.Rung, r.Why)
	case r.Rung != "":
		p("rung       %s", r.Rung)
	}
	if r.QEMU != "" {
		p("QEMU       %s", r.QEMU)
	}
	if r.Kernel != "" {
		p("kernel     %s", r.Kernel)
	}
	if r.Unit.Version != "" {
		p("unit       version %s, cap %s, ecap %s", r.Unit.Version, r.Unit.Cap, r.Unit.Ecap)
	}
	if r.Transfers > 0 {
		r.textOfRun(p)
	}
	if !r.OK {
		p("FAILED") // why is on stderr, as of every command
		return nil
	}
	p("ok         in %d ms", r.ElapsedMS)
	return nil
}

// textOfRun prints what is only known once the device has moved bytes.
func (r *report) textOfRun(p func(format string, args ...any)) {
	p("device     %s, DMA through %s", r.Device, r.DMA)
	p("copied     %d random bytes, compared (%d transfers in all)", r.BytesVerified, r.Transfers)
	if f := r.Fault; f != nil {
		p("blocked    %s of %s by %s: fault %#02x, %s; %d bytes moved", f.Access, f.IOVA, f.Requester, f.Reason, f.Text, r.BlockedBytes)
	}
	if r.StaleReached != nil {
		p("unmapped   reachable before the invalidation: %t", *r.StaleReached)
	}
	p("unmapped   blocked after unmap and invalidation: %t", r.StaleBlocked)
	p("pool       of %s: %d gets, %d empty, %d grown, %d shrunk, %d still in use", r.Pool.Of, r.Pool.Gets, r.Pool.Empty, r.Pool.Grown, r.Pool.Shrunk, r.Pool.InUse)
}
