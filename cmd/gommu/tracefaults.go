//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"gommu/iommu/trace"
	"gommu/iommu/vtd"
)

func newTraceFaults() *cobra.Command {
	r := &tracing{}
	cmd := &cobra.Command{
		Use:   "faults",
		Short: "Print the faults that programs take from their units, as they come",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := r.parse(nil); err != nil {
				return err
			}
			return r.faults(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	r.flags(cmd)
	return cmd
}

func (r *tracing) faults(ctx context.Context, w, notes io.Writer) (err error) {
	t, ctx, cancel, err := r.open(ctx, notes)
	if err != nil {
		return err
	}
	defer cancel()
	defer func() { err = errors.Join(err, t.Close()) }()
	n := 0
	for {
		e, err := t.Read(ctx)
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			break
		}
		if err != nil {
			return err
		}
		n++
		if err := r.fault(w, e); err != nil {
			return err
		}
	}
	s, err := t.Snapshot()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(notes, "%d faults, %d lost\n", n, s.Lost.Events)
	return err
}

// fault prints one.
func (r *tracing) fault(w io.Writer, e trace.Event) error {
	if r.asJSON {
		return json.NewEncoder(w).Encode(e)
	}
	if e.Operation == trace.EventFault {
		_, err := fmt.Fprintf(w, "%v IOVA %#x, in the kernel\n", e.At, e.IOVA)
		return err
	}
	access := "read"
	if e.Write {
		access = "write"
	}
	text := fmt.Sprintf("%v device %v %s IOVA %#x: %s (%#x), domain %d, process %d %s", e.At, e.Source, access, e.IOVA, vtd.Reason(e.Result), e.Result, e.Domain, e.Process, nameOf(e.Process))
	if e.Paged {
		text += fmt.Sprintf(", PASID %#x", e.PASID)
	}
	if e.Skipped {
		text += "; the unit had no room for those after it"
	}
	_, err := fmt.Fprintln(w, text)
	return err
}
