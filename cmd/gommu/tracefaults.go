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
)

func newTraceFaults() *cobra.Command {
	r := &tracing{}
	cmd := &cobra.Command{
		Use:   "faults",
		Short: "Print faults as they come: those that programs take from their units, and those that the kernel takes",
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
	t, err := r.open(ctx, notes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	n := 0
	for {
		e, err := t.Read(t.ctx)
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			break
		}
		if err != nil {
			return err
		}
		if !r.wanted(e.Source) {
			continue
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
		return json.NewEncoder(w).Encode(struct {
			trace.Event
			Text string `json:"text"`
		}{e, eventText(e)})
	}
	_, err := fmt.Fprintf(w, "%v %s\n", e.At, eventText(e))
	return err
}

// eventText is one line for people.
func eventText(e trace.Event) string {
	text := ""
	switch {
	case e.Fault == nil && e.Operation == trace.Fault:
		text = "a unit had no room for faults"
	case e.Fault == nil:
		text = fmt.Sprintf("%v, IOVA %#x", e.Operation, e.IOVA)
	default:
		text = e.Fault.String()
	}
	switch {
	case e.Operation == trace.KernelFault:
		text += fmt.Sprintf("; device %v, taken by the kernel", e.Source)
	case e.Domain != 0:
		text += fmt.Sprintf("; domain %d of process %d", e.Domain, e.Process)
	default:
		text += fmt.Sprintf("; process %d", e.Process)
	}
	if e.Skipped && e.Fault != nil {
		text += "; the unit had no room for those after it"
	}
	return text
}
