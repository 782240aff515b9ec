//go:build linux

package main

import (
	"fmt"
	"image/color"
	"math"
	"os"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"gommu/qemu-tests/measure"
)

// plotBench writes a picture of four panels, one for each shape: the percentiles of mapping
// and unmapping it, a line for each way and policy.
func plotBench(file string, r *measure.Report) error {
	format, err := plotFormat(file)
	if err != nil {
		return err
	}
	legend := plot.NewLegend()
	legend.Top, legend.Left = true, true
	legend.Padding = vg.Points(2)
	legend.ThumbnailWidth = vg.Points(36)
	drawn := map[string]int{} // number of each way and policy
	var panels []*plot.Plot
	for _, s := range measure.Shapes() {
		p, err := benchPanel(r, s, drawn, &legend)
		if err != nil {
			return err
		}
		panels = append(panels, p)
	}
	strip := vg.Length(len(drawn)+2) * vg.Points(15)
	c, err := draw.NewFormattedCanvas(11*vg.Inch, 8*vg.Inch+strip, format)
	if err != nil {
		return err
	}
	drawBench(draw.New(c), r, panels, legend, strip)
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("--plot: %w", err)
	}
	if _, err := c.WriteTo(f); err != nil {
		return fmt.Errorf("--plot: %w", firstError(err, f.Close()))
	}
	return f.Close()
}

// drawBench draws the legend on top and the panels below, two by two.
func drawBench(c draw.Canvas, r *measure.Report, panels []*plot.Plot, legend plot.Legend, strip vg.Length) {
	c.SetColor(color.White)
	c.Fill(c.Rectangle.Path())
	const margin = 3 * vg.Millimeter
	c = draw.Crop(c, margin, -margin, margin, -margin)
	title := legend.TextStyle
	c.FillText(title, vg.Point{X: c.Min.X, Y: c.Max.Y - vg.Points(12)}, "rung "+r.Rung+": "+r.Machine)
	legend.Draw(draw.Crop(c, 0, 0, c.Max.Y-c.Min.Y-strip, -vg.Points(16)))
	grid := [][]*plot.Plot{panels[:2], panels[2:]}
	tiles := draw.Tiles{Rows: 2, Cols: 2, PadX: vg.Points(14), PadY: vg.Points(14)}
	canvases := plot.Align(grid, tiles, draw.Crop(c, 0, 0, 0, -strip))
	for i, row := range grid {
		for j, p := range row {
			p.Draw(canvases[i][j])
		}
	}
}

// What the panels have from left to right.
var benchPoints = []struct {
	label string
	of    func(measure.Row) float64
}{
	{"p50", func(r measure.Row) float64 { return r.P50 }},
	{"p99", func(r measure.Row) float64 { return r.P99 }},
	{"p99.9", func(r measure.Row) float64 { return r.P999 }},
	{"p99.99", func(r measure.Row) float64 { return r.P9999 }},
	{"max", func(r measure.Row) float64 { return r.Max }},
}

// benchPanel draws the rows of a shape by one goroutine, with nothing beside.
func benchPanel(r *measure.Report, s measure.Shape, drawn map[string]int, legend *plot.Legend) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = "map and unmap " + s.Name
	p.Y.Label.Text = "time"
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, timeTicks{}
	var ticks plot.ConstantTicks
	for i, at := range benchPoints {
		ticks = append(ticks, plot.Tick{Value: float64(i), Label: at.label})
	}
	p.X.Tick.Marker = ticks
	p.Add(plotter.NewGrid())
	low, high := math.Inf(1), 0.
	for _, row := range r.Rows {
		if row.Shape != s.Name || !isPair(row) || row.Threads != 1 || row.Neighbour != measure.Idle {
			continue
		}
		line, err := benchLineOf(row)
		if err != nil {
			return nil, err
		}
		name := row.Label()
		n, known := drawn[name]
		if !known {
			n = len(drawn)
			drawn[name] = n
		}
		benchStyle(line, n)
		if !known {
			legend.Add(name, line)
		}
		p.Add(line)
		for _, at := range line.XYs {
			low, high = min(low, at.Y), max(high, at.Y)
		}
	}
	if high == 0 { // nothing was measured of it
		low, high = 1, 10
	}
	p.Y.Min, p.Y.Max = math.Pow(10, math.Floor(math.Log10(low))), math.Pow(10, math.Ceil(math.Log10(high*1.01)))
	p.X.Min, p.X.Max = -0.2, float64(len(benchPoints))-0.8
	return p, nil
}

// timeTicks are those of a logarithm of nanoseconds, with units.
type timeTicks struct{}

func (timeTicks) Ticks(from, to float64) []plot.Tick {
	ticks := plot.LogTicks{Prec: -1}.Ticks(from, to)
	for i := range ticks {
		if ticks[i].Label != "" {
			ticks[i].Label = nanoseconds(ticks[i].Value)
		}
	}
	return ticks
}

func benchLineOf(r measure.Row) (*plotter.Line, error) {
	points := make(plotter.XYs, len(benchPoints))
	for i, at := range benchPoints {
		points[i].X, points[i].Y = float64(i), max(at.of(r), 1) // a logarithm has no zero
	}
	return plotter.NewLine(points)
}

// benchStyle tells more lines apart than there are colours.
func benchStyle(line *plotter.Line, n int) {
	line.Color = lineColours[n%len(lineColours)]
	line.Dashes = slices.Clone(lineDashes[n/len(lineColours)%len(lineDashes)])
	line.Width = vg.Points(1.5)
}
