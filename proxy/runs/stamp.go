package runs

import (
	"bytes"
	"errors"
	"strconv"
	"time"
)

// errTime says that a value is none of the forms of a time that are read.
var errTime = errors.New("it is not a time like 2006-01-02T15:04:05.000000Z, nor one in milliseconds since 1970")

// stamp is a time as it is written: what is before the fraction of the second
// as a number, and the fraction and the zone as they are.
type stamp struct {
	civil int64 // seconds since 1970 on the clock of the writer
	zone  int64 // seconds that it is ahead of UTC
	nanos int64
	tail  int  // where the fraction begins in the text
	sep   byte // between date and time
}

// stampLen is the length of 2006-01-02T15:04:05.
const stampLen = 19

// parseStamp reads a time in ISO 8601 with seconds: a fraction of any length
// may follow, and a zone; without one it is UTC, as LangSmith's docs have it
// (trace-with-api). It allocates nothing: it is run for each run that is sent.
func parseStamp(text []byte) (s stamp, ok bool) {
	if len(text) < stampLen {
		return s, false
	}
	year, ok1 := digits(text[0:4])
	month, ok2 := digits(text[5:7])
	day, ok3 := digits(text[8:10])
	hour, ok4 := digits(text[11:13])
	minute, ok5 := digits(text[14:16])
	second, ok6 := digits(text[17:19])
	s.sep = text[10]
	switch {
	case !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6,
		text[4] != '-' || text[7] != '-' || text[13] != ':' || text[16] != ':',
		s.sep != 'T' && s.sep != 't' && s.sep != ' ',
		year < 1, !isDate(year, month, day), hour > 23, minute > 59, second > 59:
		return s, false
	}
	s.civil = daysSince1970(year, month, day)*secondsPerDay + hour*3600 + minute*60 + second
	s.tail = stampLen
	ok = s.readTail(text[stampLen:])
	return s, ok
}

// readTail reads the fraction and the zone.
func (s *stamp) readTail(text []byte) bool {
	if len(text) > 0 && (text[0] == '.' || text[0] == ',') {
		n := 1
		for scale := int64(1e8); n < len(text) && text[n] >= '0' && text[n] <= '9'; n++ {
			s.nanos += int64(text[n]-'0') * scale
			scale /= 10
		}
		if n == 1 {
			return false
		}
		text = text[n:]
	}
	if len(text) == 0 || len(text) == 1 && (text[0] == 'Z' || text[0] == 'z') {
		return true
	}
	if len(text) < 5 || len(text) > 6 || text[0] != '+' && text[0] != '-' {
		return false
	}
	rest := text[3:]
	if len(text) == 6 {
		if text[3] != ':' {
			return false
		}
		rest = text[4:]
	}
	hours, ok1 := digits(text[1:3])
	minutes, ok2 := digits(rest)
	if !ok1 || !ok2 || hours > 23 || minutes > 59 {
		return false
	}
	s.zone = hours*3600 + minutes*60
	if text[0] == '-' {
		s.zone = -s.zone
	}
	return true
}

// unix is the time in whole seconds since 1970, UTC.
func (s *stamp) unix() int64 { return s.civil - s.zone }

func (s *stamp) time() time.Time { return time.Unix(s.unix(), s.nanos).UTC() }

// digits reads a number of a fixed length.
func digits(text []byte) (n int64, ok bool) {
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

const secondsPerDay = 24 * 60 * 60

var daysBefore = [...]int64{0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365}

func isDate(year, month, day int64) bool {
	if month < 1 || month > 12 || day < 1 {
		return false
	}
	last := daysBefore[month] - daysBefore[month-1]
	if month == 2 && isLeap(year) {
		last++
	}
	return day <= last
}

func isLeap(year int64) bool { return year%4 == 0 && (year%100 != 0 || year%400 == 0) }

// daysSince1970 counts in the Gregorian calendar; the date must be one.
func daysSince1970(year, month, day int64) int64 {
	y := year - 1
	days := y*365 + y/4 - y/100 + y/400 + daysBefore[month-1] + day - 1
	if month > 2 && isLeap(year) {
		days++
	}
	return days - 719162 // from the year 1 to 1970
}

// shiftText moves a time as it is written by whole seconds. Fraction and zone
// stay as they are.
func shiftText(text []byte, seconds int64) ([]byte, error) {
	s, ok := parseStamp(text)
	if !ok {
		return nil, errTime
	}
	at := time.Unix(s.civil+seconds, 0).UTC()
	if !isYear(at) {
		return nil, errYear
	}
	out := at.AppendFormat(make([]byte, 0, len(text)), "2006-01-02T15:04:05")
	out[len("2006-01-02")] = s.sep
	return append(out, text[s.tail:]...), nil
}

var errYear = errors.New("the time would be in a year that has not four digits")

func isYear(at time.Time) bool { return at.Year() >= 1 && at.Year() <= 9999 }

// shiftSegments moves the times of a dotted_order by whole seconds, those of
// all ancestors, too. The digits of their fractions and the ids stay.
func shiftSegments(order []byte, seconds int64) ([]byte, error) {
	out := make([]byte, 0, len(order))
	for segment := range bytes.SplitSeq(order, []byte{'.'}) {
		if _, err := parseSegment(segment); err != nil {
			return nil, err
		}
		at, err := time.Parse(segmentTime, string(segment[:len(segmentTime)]))
		if err != nil {
			return nil, err
		}
		if at = at.Add(time.Duration(seconds) * time.Second); !isYear(at) {
			return nil, errYear
		}
		if len(out) > 0 {
			out = append(out, '.')
		}
		out = at.AppendFormat(out, segmentTime)
		out = append(out, segment[len(segmentTime):]...)
	}
	return out, nil
}

// leastMillis tells milliseconds since 1970 from seconds: in milliseconds it is
// a day in 1973.
const leastMillis = 100_000_000_000

// cutMillis reads a JSON number of milliseconds since 1970, as the JavaScript
// SDK writes ends: the whole ones, and a fraction as it is written.
func cutMillis(number []byte) (whole int64, fraction []byte, err error) {
	text, fraction := number, number[len(number):]
	if dot := bytes.IndexByte(number, '.'); dot >= 0 {
		text, fraction = number[:dot], number[dot:]
		if _, ok := digits(fraction[1:]); !ok {
			return 0, nil, errTime
		}
	}
	const most = int64(1) << 53 // beyond, milliseconds are not exact
	whole, err = strconv.ParseInt(string(text), 10, 64)
	if err != nil || whole < leastMillis || whole > most {
		return 0, nil, errTime
	}
	return whole, fraction, nil
}

// shiftMillis moves a JSON number of milliseconds by whole seconds.
func shiftMillis(number []byte, seconds int64) ([]byte, error) {
	whole, fraction, err := cutMillis(number)
	if err != nil {
		return nil, err
	}
	if whole += seconds * 1000; whole < leastMillis || !isYear(time.UnixMilli(whole).UTC()) {
		return nil, errYear
	}
	return append(strconv.AppendInt(nil, whole, 10), fraction...), nil
}
