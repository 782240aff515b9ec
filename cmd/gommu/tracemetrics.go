//go:build linux

package main

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"gommu/iommu/trace"
)

// metrics shows Prometheus what a tracer has counted, anew each time that it asks.
type metrics struct {
	snapshot func() (trace.Snapshot, error)
}

var (
	metricLabels = []string{"operation", "device", "pool", "result"}

	metricSeconds = prometheus.NewDesc("gommu_trace_duration_seconds", "How long calls took.", metricLabels, nil)
	metricCalls   = prometheus.NewDesc("gommu_trace_calls_total", "Calls and events that have no duration.", metricLabels, nil)
	metricBytes   = prometheus.NewDesc("gommu_trace_bytes_total", "The sizes of calls, added up.", metricLabels, nil)
	metricItems   = prometheus.NewDesc("gommu_trace_items_total", "Mappings of flushes and elements of pools, added up.", metricLabels, nil)
	metricLost    = prometheus.NewDesc("gommu_trace_lost_total", "What happened and is in no other metric: calls not counted, events not passed on, and calls of the kernel's that were not timed.", []string{"what"}, nil)
	metricSample  = prometheus.NewDesc("gommu_trace_sample", "One in so many of programs' calls is seen.", nil, nil)
)

// Describe is part of prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{metricSeconds, metricCalls, metricBytes, metricItems, metricLost, metricSample} {
		to <- d
	}
}

// Collect is part of prometheus.Collector.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	s, err := m.snapshot()
	if err != nil {
		to <- prometheus.NewInvalidMetric(metricCalls, err)
		return
	}
	for _, t := range (grouping{device: true, result: true}).of(s.Tallies) {
		collect(to, t)
	}
	for what, n := range map[string]uint64{"calls": s.Lost.Tallied, "events": s.Lost.Events, "starts": s.Lost.Starts, "misses": s.Lost.Misses} {
		to <- prometheus.MustNewConstMetric(metricLost, prometheus.CounterValue, float64(n), what)
	}
	to <- prometheus.MustNewConstMetric(metricSample, prometheus.GaugeValue, float64(s.Sample))
}

func collect(to chan<- prometheus.Metric, t trace.Tally) {
	device, pool := sourceName(t), ""
	if t.Operation.OfPool() {
		device, pool = "", device
	}
	labels := []string{t.Operation.String(), device, pool, resultName(t.Operation, t.Result)}
	counter := func(d *prometheus.Desc, n uint64) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	if t.Operation.Timed() {
		to <- prometheus.MustNewConstHistogram(metricSeconds, t.Count, t.Time.Seconds(), buckets(t.Slots), labels...)
	} else {
		counter(metricCalls, t.Count)
	}
	if t.Operation.InBytes() {
		counter(metricBytes, t.Size)
	}
	if t.Operation.Items() != "" {
		counter(metricItems, t.Items)
	}
}

// buckets are the slots as Prometheus has them: how many calls took at most so many seconds. The last slot has no end.
func buckets(slots [trace.Slots]uint64) map[float64]uint64 {
	most, sum := map[float64]uint64{}, uint64(0)
	for i, n := range slots[:trace.Slots-1] {
		sum += n
		most[float64(uint64(2)<<i-1)/1e9] = sum
	}
	return most
}

// serve answers on l until the function that it returns is called.
func (r *tracing) serve(l net.Listener, t *session) (stop func()) {
	all := prometheus.NewRegistry()
	all.MustRegister(&metrics{func() (trace.Snapshot, error) { return r.snapshot(t.Tracer) }})
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(all, promhttp.HandlerOpts{}))
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.Serve(l) }() // until Shutdown
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if s.Shutdown(ctx) != nil {
			_ = s.Close()
		}
	}
}
