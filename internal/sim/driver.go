package sim

const driverHeading = "Driver Status Infomation,CarNum,AccStep,BrkStep,WheelStep,DirLightStep,Speed,AreaNum\n"

// Weights in percent, normal and wild.
var (
	accWeights = [2][6]uint32{{30, 30, 10, 20, 5, 5}, {10, 10, 10, 30, 25, 15}}
	accGain    = [2][6]int{{0, 5, 10, 15, 20, 25}, {0, 5, 10, 20, 30, 40}}
	brkWeights = [2][4]uint32{{30, 45, 20, 5}, {10, 10, 50, 30}}
	brkLoss    = [2][4]int{{0, 10, 20, 30}, {0, 5, 10, 20}}
	wheels     = [7]string{"F", "L1", "L2", "L3", "R1", "R2", "R3"}
	// straight is the share of F in percent; the six turns share the rest.
	straight = [2]uint32{70, 40}
)

const maxSpeed = 250

type driver struct {
	wild  int // 0 or 1, an index of the tables above
	area  byte
	speed int
}

// driverGen generates the driving log, one record of each driver in every step
// of two simulated seconds. Outside a burst the drivers report one after the
// other, spread evenly over the step.
type driverGen struct {
	cfg     Config
	ids     [][5]byte
	drivers []driver
	r       rng
	g       garbager
	now     stamp
	pad     []byte
	day     int64
	step    int64 // the current step: second/DriverStep
	i       int   // the driver whose record is next
}

func newDriverGen(c Config) *driverGen {
	d := &driverGen{cfg: c, ids: carNumbers(c), drivers: make([]driver, c.Cars)}
	// A stream of its own: the fleet's letters must not depend on it.
	r := newRNG(c.Seed, purposeCars, 1)
	for i := range d.drivers {
		d.drivers[i].area = byte('A' + r.below(6))
	}
	// As in the handbook: a tenth as many draws as cars, doubles possible.
	for range c.Cars / 10 {
		d.drivers[r.below(uint32(c.Cars))].wild = 1
	}
	d.pad = make([]byte, MaxRecordBytes)
	for i := range d.pad {
		d.pad[i] = byte('0' + i%10)
	}
	d.step = ceilTo(c.clockStart(), DriverStep) / DriverStep
	d.openDay()
	return d
}

func (d *driverGen) openDay() {
	d.day = d.step * DriverStep / secondsPerDay
	d.r = newRNG(d.cfg.Seed, purposeDriver, d.day)
	d.g = newGarbager(d.cfg.Garbage, d.cfg.Seed, purposeDriverGarbage, d.day)
	for i := range d.drivers {
		d.drivers[i].speed = 0
	}
}

// headings appends one heading per driver, as each thread of the handbook's
// simulator does when it starts.
func (d *driverGen) headings(b *block) {
	for range d.drivers {
		start := len(b.buf)
		b.buf = append(b.buf, driverHeading...)
		b.end(start, Heading)
	}
}

func (d *driverGen) burst() bool {
	return d.cfg.BurstEvery > 0 && d.step*DriverStep%int64(d.cfg.BurstEvery) == 0
}

// due is the simulated instant of the next unit in milliseconds.
func (d *driverGen) due() int64 {
	at := d.step * DriverStep * 1000
	if !d.burst() {
		at += int64(d.i) * DriverStep * 1000 / int64(len(d.drivers))
	}
	return at
}

// unit appends what belongs into one write: the next driver's record with the
// garbage before it, or in a burst those of all drivers.
func (d *driverGen) unit(b *block) {
	ms := d.due()
	d.now.set(ms / 1000)
	n := 1
	if d.burst() {
		n = len(d.drivers)
	}
	for range n {
		d.g.before(b, &d.ids[d.i], &d.now.text)
		d.record(b, &d.ids[d.i], &d.drivers[d.i])
		d.i++
	}
	if d.i == len(d.drivers) {
		d.i = 0
		d.step++
		if d.step*DriverStep/secondsPerDay != d.day {
			d.openDay()
		}
	}
}

func (d *driverGen) record(b *block, id *[5]byte, c *driver) {
	acc := pick(d.r.below(100), accWeights[c.wild][:])
	brk := 0
	if acc == 0 {
		brk = pick(d.r.below(100), brkWeights[c.wild][:])
	}
	c.speed += accGain[c.wild][acc] - brkLoss[c.wild][brk]
	c.speed = min(max(c.speed, 0), maxSpeed)
	// Each area letter has exactly one jammed place out of its ten, and where
	// the jam is drawn apart from the place that is printed.
	if d.r.below(10) == 0 {
		c.speed = c.speed * 3 / 10
	}
	wheel := 0
	if u := d.r.below(100); u >= straight[c.wild] {
		wheel = 1 + int((u-straight[c.wild])*6/(100-straight[c.wild]))
	}
	light := "NLLLRRR"[wheel]
	if c.wild == 1 { // the indicator does not match the wheel
		light = "NLR"[pick(d.r.below(100), []uint32{60, 20, 20})]
	}
	area := d.r.below(10) + 1

	buf, n := b.room(64 + MaxRecordBytes)
	start := n
	n += copy(buf[n:], d.now.text[:])
	buf[n] = ','
	n++
	n += copy(buf[n:], id[:])
	n = putNum(buf, n, uint8(acc))
	n = putNum(buf, n, uint8(brk))
	buf[n] = ','
	n++
	n += copy(buf[n:], wheels[wheel])
	buf[n], buf[n+1] = ',', light
	n = putNum(buf, n+2, uint8(c.speed))
	buf[n], buf[n+1], buf[n+2], buf[n+3] = ',', c.area, byte('0'+area/10), byte('0'+area%10)
	n += 4
	if want := d.cfg.RecordBytes; n-start < want {
		buf[n] = ','
		n++
		n += copy(buf[n:], d.pad[:want-(n-start)])
	}
	buf[n] = '\n'
	b.buf = buf[:n+1]
	b.end(start, Record)
}

// pick turns a draw of [0, 100) into an index by percent weights.
func pick(u uint32, weights []uint32) int {
	for i, w := range weights {
		if u < w {
			return i
		}
		u -= w
	}
	return len(weights) - 1
}
