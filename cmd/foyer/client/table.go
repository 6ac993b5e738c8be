package client

import (
	"bytes"
	"strings"

	"github.com/mattn/go-runewidth"
)

// cell is a text in a table. Only those of our own words have a colour.
type cell struct {
	text   string
	colour string // of the terminal
}

const (
	gray   = "\x1b[90m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	plain  = "\x1b[0m"
)

func cells(texts ...string) []cell {
	row := make([]cell, len(texts))
	for i, t := range texts {
		row[i].text = t
	}
	return row
}

const (
	gap       = 3
	tableRows = 1000 // that are lined up together
)

// table lines up its rows as they are flushed: a column may grow from one flush to the next, and never shrinks.
type table struct {
	sys    *System
	heads  []string
	right  map[int]bool // columns of numbers
	widths []int
	rows   [][]cell
	headed bool
}

func (s *System) table(heads ...string) *table {
	return &table{sys: s, heads: heads, widths: make([]int, len(heads)), right: map[int]bool{}}
}

// numbers says which columns end together.
func (t *table) numbers(columns ...int) *table {
	for _, i := range columns {
		t.right[i] = true
	}
	return t
}

// least gives columns a width to begin with.
func (t *table) least(widths ...int) *table {
	copy(t.widths, widths)
	return t
}

// add takes a row, and prints those that wait when there are many.
func (t *table) add(row ...cell) error {
	for i := range row {
		row[i].text = clean(row[i].text)
		if row[i].text == "" {
			row[i].text = "-"
		}
	}
	t.rows = append(t.rows, row)
	if len(t.rows) >= tableRows {
		return t.flush()
	}
	return nil
}

// flush prints the rows that wait, and the headings before the first of them.
func (t *table) flush() error {
	rows := t.rows
	if !t.headed {
		rows = append([][]cell{cells(t.heads...)}, rows...)
	}
	for _, row := range rows {
		for i, c := range row {
			t.widths[i] = max(t.widths[i], runewidth.StringWidth(c.text))
		}
	}
	var b bytes.Buffer
	for _, row := range rows {
		t.write(&b, row)
	}
	t.headed, t.rows = true, t.rows[:0]
	return t.sys.print(b.Bytes())
}

func (t *table) write(b *bytes.Buffer, row []cell) {
	for i, c := range row {
		pad := strings.Repeat(" ", t.widths[i]-runewidth.StringWidth(c.text))
		if t.right[i] {
			b.WriteString(pad)
		}
		if c.colour != "" && t.sys.Colour {
			b.WriteString(c.colour + c.text + plain)
		} else {
			b.WriteString(c.text)
		}
		switch {
		case i == len(row)-1:
		case t.right[i]:
			b.WriteString(strings.Repeat(" ", gap))
		default:
			b.WriteString(pad + strings.Repeat(" ", gap))
		}
	}
	b.WriteByte('\n')
}
