//go:build linux

package main

import (
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	_ "gonum.org/v1/plot/vg/vgimg" // PNG
	_ "gonum.org/v1/plot/vg/vgsvg" // SVG

	"gommu/respool/compare"
)

// plotFormat is the format that a file's name asks for.
func plotFormat(file string) (string, error) {
	switch format := strings.ToLower(strings.TrimPrefix(filepath.Ext(file), ".")); format {
	case "svg", "png":
		return format, nil
	default:
		return "", fmt.Errorf("%w: --plot %s: name the file .svg or .png", errFlag, file)
	}
}

// checkPlot refuses a file that could not be written when all is measured; "" is none.
func checkPlot(file string) error {
	if file == "" {
		return nil
	}
	if _, err := plotFormat(file); err != nil {
		return err
	}
	if dir := filepath.Dir(file); !isDir(dir) {
		return fmt.Errorf("%w: --plot %s: there is no folder %s: make it, or take another", errFlag, file, dir)
	}
	if isDir(file) {
		return fmt.Errorf("%w: --plot %s is a folder: name a file in it", errFlag, file)
	}
	return nil
}

// Colours that are told apart without red and green, and by dashes as well.
var (
	lineColours = []color.Color{
		color.RGBA{0x00, 0x72, 0xb2, 0xff}, // blue
		color.RGBA{0xd5, 0x5e, 0x00, 0xff}, // orange
		color.RGBA{0x00, 0x9e, 0x73, 0xff}, // green
		color.RGBA{0xcc, 0x79, 0xa7, 0xff}, // pink
	}
	lineDashes = [][]vg.Length{nil, {vg.Points(6), vg.Points(2)}, {vg.Points(2), vg.Points(2)}, {vg.Points(9), vg.Points(3), vg.Points(2), vg.Points(3)}}

	demandColour   = color.Gray{0xa0}
	pressureColour = color.Gray{0xe8}
)

// plotComparison writes a picture of two panels: memory held over time, and failures so far.
func plotComparison(file string, t *compare.Trace, results []compare.Result) error {
	format, err := plotFormat(file)
	if err != nil {
		return err
	}
	end := t.Length
	for _, r := range results {
		end = max(end, r.Elapsed)
	}
	held, legend, err := plotHeld(t, results, end)
	if err != nil {
		return err
	}
	failed, err := plotFailed(t, results, end)
	if err != nil {
		return err
	}
	const width, height = 10 * vg.Inch, 7 * vg.Inch
	c, err := draw.NewFormattedCanvas(width, height, format)
	if err != nil {
		return err
	}
	drawPanels(draw.New(c), held, failed, legend)
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("--plot: %w", err)
	}
	if _, err := c.WriteTo(f); err != nil {
		return fmt.Errorf("--plot: %w", firstError(err, f.Close()))
	}
	return f.Close()
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// drawPanels draws the legend on top, where no data are, and the panels below with their axes in
// line.
func drawPanels(c draw.Canvas, held, failed *plot.Plot, legend *plot.Legend) {
	c.SetColor(color.White)
	c.Fill(c.Rectangle.Path())
	const margin, strip = 3 * vg.Millimeter, 30 * vg.Millimeter
	c = draw.Crop(c, margin, -margin, margin, -margin)
	legend.Draw(draw.Crop(c, 0, 0, c.Max.Y-c.Min.Y-strip, 0))
	tiles := draw.Tiles{Rows: 2, Cols: 1, PadY: vg.Points(10)}
	canvases := plot.Align([][]*plot.Plot{{held}, {failed}}, tiles, draw.Crop(c, 0, 0, 0, -strip))
	held.Draw(canvases[0][0])
	failed.Draw(canvases[1][0])
}

// plotHeld draws how many elements existed, and how many the trace wants.
func plotHeld(t *compare.Trace, results []compare.Result, end time.Duration) (*plot.Plot, *plot.Legend, error) {
	p := newPanel("memory held (elements)", end)
	p.Title.Text = fmt.Sprintf("trace %s, seed %d, %d tasks, %d gets", t.Name, t.Seed, len(t.Tasks), t.Gets)
	p.Title.Padding = vg.Points(6)
	legend := plot.NewLegend()
	legend.Top, legend.Left = true, true
	legend.Padding = vg.Points(2)
	legend.ThumbnailWidth = vg.Points(36)

	top := t.Peak
	for _, r := range results {
		top = max(top, r.Peak)
	}
	p.Y.Max = 1.05 * float64(top)
	if err := addPressure(p, t, &legend); err != nil {
		return nil, nil, err
	}
	p.Add(plotter.NewGrid())
	demand, err := steps(t.Demand(time.Millisecond))
	if err != nil {
		return nil, nil, err
	}
	demand.Color, demand.Width = demandColour, vg.Points(1)
	p.Add(demand)
	legend.Add("what the trace wants out, if every get succeeds at once", demand)
	for i, r := range results {
		line, err := steps(r.Samples)
		if err != nil {
			return nil, nil, err
		}
		style(line, i)
		p.Add(line)
		legend.Add(fmt.Sprintf("%s: at most %d held, failed gets: %d", r.Name, r.Peak, len(r.Failures)), line)
	}
	return p, &legend, nil
}

// plotFailed draws how many gets had failed by a time.
func plotFailed(t *compare.Trace, results []compare.Result, end time.Duration) (*plot.Plot, error) {
	p := newPanel("failed gets so far", end)
	p.X.Label.Text = "time since the start of the trace (ms)"
	top := 1
	for _, r := range results {
		top = max(top, len(r.Failures))
	}
	p.Y.Max = 1.05 * float64(top)
	if err := addPressure(p, t, nil); err != nil {
		return nil, err
	}
	p.Add(plotter.NewGrid())
	for i, r := range results {
		samples := []compare.Sample{{}}
		for n, f := range r.Failures {
			samples = append(samples, compare.Sample{At: f.At, Elements: n + 1})
		}
		samples = append(samples, compare.Sample{At: end, Elements: len(r.Failures)})
		line, err := steps(samples)
		if err != nil {
			return nil, err
		}
		style(line, i)
		p.Add(line)
	}
	return p, nil
}

func newPanel(yLabel string, end time.Duration) *plot.Plot {
	p := plot.New()
	p.Y.Label.Text = yLabel
	p.X.Min, p.X.Max = 0, milliseconds(end)
	p.Y.Min = 0
	p.X.Tick.Marker, p.Y.Tick.Marker = wholeTicks{}, wholeTicks{}
	p.X.Label.TextStyle.Font.Size = vg.Points(12)
	p.Y.Label.TextStyle.Font.Size = vg.Points(12)
	return p
}

// wholeTicks marks 1, 2 or 5 times a power of ten, up to ten of them, and never parts of one.
type wholeTicks struct{}

func (wholeTicks) Ticks(from, to float64) []plot.Tick {
	step := 1.
	for i := 0; (to-from)/step > 10; i++ {
		step *= []float64{2, 2.5, 2}[i%3]
	}
	var ticks []plot.Tick
	for v := math.Ceil(from/step) * step; v <= to; v += step {
		ticks = append(ticks, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'f', 0, 64)})
	}
	return ticks
}

func style(line *plotter.Line, i int) {
	line.Color = lineColours[i%len(lineColours)]
	line.Dashes = lineDashes[i%len(lineDashes)]
	line.Width = vg.Points(1.5)
}

// steps is a line that stays level between samples.
func steps(samples []compare.Sample) (*plotter.Line, error) {
	points := make(plotter.XYs, len(samples))
	for i, s := range samples {
		points[i].X, points[i].Y = milliseconds(s.At), float64(s.Elements)
	}
	line, err := plotter.NewLine(points)
	if err != nil {
		return nil, err
	}
	line.StepStyle = plotter.PostStep
	return line, nil
}

// addPressure shades the times of pressure, below all else.
func addPressure(p *plot.Plot, t *compare.Trace, legend *plot.Legend) error {
	for i, s := range t.Allocator.Pressure {
		from, to := milliseconds(s.From), milliseconds(s.To)
		area, err := plotter.NewPolygon(plotter.XYs{{X: from, Y: 0}, {X: from, Y: p.Y.Max}, {X: to, Y: p.Y.Max}, {X: to, Y: 0}})
		if err != nil {
			return err
		}
		area.Color = pressureColour
		area.LineStyle.Width = 0
		p.Add(area)
		if i == 0 && legend != nil {
			legend.Add("pressure: the allocator refuses without reclaim", area)
		}
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
