package pilot

import "cmp"

// Diagram is the drawing of a topology with its numbers. Places are in the
// drawing's own units.
type Diagram struct {
	Label  string  `json:"label"`
	Width  int     `json:"width"`
	Height int     `json:"height"`
	Groups []Frame `json:"groups"`
	Nodes  []Node  `json:"nodes"`
	Edges  []Edge  `json:"edges"`
}

// Frame is drawn around the nodes of a process.
type Frame struct {
	Name  string `json:"name"` // of the process
	Title string `json:"title"`
}

// Node is a part of an agent, or one end of the whole.
type Node struct {
	ID    string `json:"id"`
	Title string `json:"title"`
	Group string `json:"group,omitempty"` // the frame it is in
	X     int    `json:"x"`
	Y     int    `json:"y"`
	W     int    `json:"w"`
	H     int    `json:"h"`
	// Channel nodes show how full they are: Size events of Capacity. The
	// others show Value and Note.
	Channel  bool   `json:"channel,omitempty"`
	Size     int64  `json:"channel_size,omitempty"`
	Capacity int64  `json:"capacity,omitempty"`
	Value    string `json:"value,omitempty"`
	Note     string `json:"note,omitempty"`
	Hot      bool   `json:"hot,omitempty"` // Note wants attention
}

// Edge leads from node to node. On says that events go that way now, Standby
// that they do only while another way is closed.
type Edge struct {
	From    string `json:"from"`
	To      string `json:"to"`
	Kind    string `json:"kind"`
	On      bool   `json:"on,omitempty"`
	Standby bool   `json:"standby,omitempty"`
}

// Fact is a line of what is under way.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Sizes of the drawing.
const (
	nodeW, nodeH = 122, 84
	colPitch     = 142
	agentGap     = 34 // more between agents
	rowPitch     = 138
	marginX      = 22
	marginY      = 40
	minWidth     = 1160
)

// draw lays the parts out. What changes is filled in at each sample.
func (p *plan) draw() *Diagram {
	d := &Diagram{Label: p.title}
	named := map[string]bool{}
	for _, n := range p.parts {
		if !named[n.process] {
			named[n.process] = true
			d.Groups = append(d.Groups, Frame{n.process, cmp.Or(p.titles[n.process], n.process)})
		}
		n := Node{ID: n.id(), Title: n.title, Group: n.process, W: nodeW, H: nodeH, Channel: n.kind == channelPart,
			X: marginX + int(n.col*colPitch) + p.gaps(n.col), Y: marginY + int(n.row*rowPitch)}
		d.Width, d.Height = max(d.Width, n.X+n.W+marginX), max(d.Height, n.Y+n.H+marginX)
		d.Nodes = append(d.Nodes, n)
	}
	if less := minWidth - d.Width; less > 0 { // in the middle, and not larger than life
		d.Width = minWidth
		for i := range d.Nodes {
			d.Nodes[i].X += less / 2
		}
	}
	for _, w := range p.wires {
		d.Edges = append(d.Edges, Edge{From: w.from, To: w.to, Kind: w.kind, Standby: w.standby})
	}
	return d
}

// gaps is the room between processes left of a column.
func (p *plan) gaps(col float64) (w int) {
	for _, b := range p.borders {
		if col >= b.col {
			w += b.gap
		}
	}
	return w
}
