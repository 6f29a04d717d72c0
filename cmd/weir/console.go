package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// console is the outside of one invocation: where it writes and what time it
// is. Tests give it buffers and a fixed clock.
type console struct {
	Out io.Writer // results
	Err io.Writer // the log, progress and errors

	// OutColor and ErrColor say whether escape sequences are welcome: the
	// writer is a terminal and nobody asked for plain text.
	OutColor, ErrColor bool
	// OutTTY and ErrTTY say whether what is on Out or Err can be overwritten.
	OutTTY, ErrTTY bool
	// columns is the width of Out; 0: the terminal is asked.
	columns int

	now func() time.Time
}

// system is all an invocation takes from the process it runs in.
type system struct {
	console
	in     io.Reader // answers to questions
	inTTY  bool      // somebody is there to be asked
	getenv func(string) string
	// environ lists the environment, each "NAME=value"; nil: nothing is in it.
	environ func() []string
	cwd     string
}

// processSystem returns the system of this process.
func processSystem() (*system, error) {
	cwd, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("finding the working directory: %w", err)
	}
	// NO_COLOR counts when it is set to anything but nothing (no-color.org).
	dumb := os.Getenv("TERM") == "dumb"
	plain := os.Getenv("NO_COLOR") != "" || dumb
	outTTY, errTTY := isTerminal(os.Stdout), isTerminal(os.Stderr)
	return &system{
		console: console{
			Out: os.Stdout, Err: os.Stderr,
			OutColor: outTTY && !plain, ErrColor: errTTY && !plain,
			OutTTY: outTTY && !dumb, ErrTTY: errTTY && !dumb,
			now: time.Now,
		},
		in: os.Stdin, inTTY: isTerminal(os.Stdin) && errTTY,
		getenv:  os.Getenv,
		environ: os.Environ,
		cwd:     cwd,
	}, nil
}

// style is a terminal colour.
type style string

const (
	plain  style = ""
	bold   style = "\x1b[1m"
	dim    style = "\x1b[2m"
	red    style = "\x1b[31m"
	green  style = "\x1b[32m"
	yellow style = "\x1b[33m"
)

const resetStyle = "\x1b[0m"

// paint wraps text in a style where colours are welcome.
func paint(text string, s style, color bool) string {
	if !color || s == plain || text == "" {
		return text
	}
	return string(s) + text + resetStyle
}

// cell is one cell of a table.
type cell struct {
	text  string
	style style
}

// column is the head of one column.
type column struct {
	title string
	// right aligns numbers at their last digit.
	right bool
}

// writeTable writes rows in aligned columns, two spaces apart. Columns in
// which no row says anything are left out. Alignment counts columns, so colours
// and wide characters do not disturb it. Text from outside must be cleaned before.
func writeTable(w io.Writer, columns []column, rows [][]cell, color bool) {
	widths := make([]int, len(columns))
	for i := range columns {
		for _, row := range rows {
			widths[i] = max(widths[i], columnsOf(row[i].text))
		}
		if widths[i] > 0 {
			widths[i] = max(widths[i], columnsOf(columns[i].title))
		}
	}
	head := make([]cell, len(columns))
	for i, c := range columns {
		head[i] = cell{text: c.title, style: dim}
	}
	for _, row := range append([][]cell{head}, rows...) {
		var line strings.Builder
		pending := 0 // spaces owed before the next text; none at the line's end
		for i, c := range row {
			if widths[i] == 0 {
				continue
			}
			gap := widths[i] - columnsOf(c.text)
			if columns[i].right {
				pending, gap = pending+gap, 0
			}
			if c.text != "" {
				line.WriteString(strings.Repeat(" ", pending))
				line.WriteString(paint(c.text, c.style, color))
				pending = 0
			} else {
				gap = widths[i]
				if columns[i].right {
					gap = 0
				}
			}
			pending += gap + 2
		}
		fmt.Fprintln(w, line.String())
	}
}

// oneLine makes text from outside fit for a terminal: control characters
// become spaces, and what exceeds most characters is cut.
func oneLine(text string, most int) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool {
		return r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) || r == utf8.RuneError
	}), " ")
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}

// humanCount writes a count with thousands separated.
func humanCount(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// humanBytes writes a size with at most three significant digits.
func humanBytes(n int64) string {
	const step = 1024
	if n < step {
		return fmt.Sprintf("%d B", n)
	}
	size, unit := float64(n), -1
	for size >= step && unit < len(humanUnits)-1 {
		size, unit = size/step, unit+1
	}
	switch {
	case size < 10:
		return fmt.Sprintf("%.2f %s", size, humanUnits[unit])
	case size < 100:
		return fmt.Sprintf("%.1f %s", size, humanUnits[unit])
	default:
		return fmt.Sprintf("%.0f %s", size, humanUnits[unit])
	}
}

var humanUnits = [...]string{"KiB", "MiB", "GiB", "TiB", "PiB"}

// humanDuration writes a time span in its two largest units: 3d 4h, 2m 5s.
// Below a second it says "<1s"; negative spans, which clocks that disagree
// produce, count as none.
func humanDuration(d time.Duration) string {
	const day = 24 * time.Hour
	d = max(d, 0)
	switch {
	case d < time.Second:
		return "<1s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d/time.Second))
	case d < time.Hour:
		return twoUnits(d, time.Minute, time.Second, "m", "s")
	case d < day:
		return twoUnits(d, time.Hour, time.Minute, "h", "m")
	default:
		return twoUnits(d, day, time.Hour, "d", "h")
	}
}

func twoUnits(d, large, small time.Duration, largeName, smallName string) string {
	text := fmt.Sprintf("%d%s", d/large, largeName)
	if rest := d % large / small; rest > 0 {
		text += fmt.Sprintf(" %d%s", rest, smallName)
	}
	return text
}
