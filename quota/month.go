package quota

import (
	"fmt"
	"time"
)

// Month is a calendar month in UTC, LangSmith's unit of billing (LangSmith
// docs: usage and billing), counted from January 1970. Months compare as
// numbers.
type Month uint16

// MonthOf is the month of t. Times outside of the years 1970 to 7400 give the
// nearest month there is.
func MonthOf(t time.Time) Month {
	t = t.UTC()
	n := (t.Year()-1970)*12 + int(t.Month()) - 1
	return Month(min(max(n, 0), 1<<16-1))
}

// Begin is the month's first moment.
func (m Month) Begin() time.Time {
	return time.Date(1970+int(m)/12, time.Month(int(m)%12+1), 1, 0, 0, 0, 0, time.UTC)
}

// End is the first moment of the next month.
func (m Month) End() time.Time {
	return time.Date(1970+int(m)/12, time.Month(int(m)%12+2), 1, 0, 0, 0, 0, time.UTC)
}

// String is the month as in 2026-11.
func (m Month) String() string { return fmt.Sprintf("%04d-%02d", 1970+int(m)/12, int(m)%12+1) }

// Day is a day in UTC, counted from 1 January 1970. Days have 24 hours.
type Day uint32

// DayOf is the day of t.
func DayOf(t time.Time) Day { return Day(max(t.Unix(), 0) / (24 * 60 * 60)) }

// Begin is the day's first moment.
func (d Day) Begin() time.Time { return time.Unix(int64(d)*24*60*60, 0).UTC() }

// hourOf is the clock hour of t in UTC, as LangSmith's hourly windows count
// them (LangSmith docs: usage and billing).
func hourOf(t time.Time) int64 { return max(t.Unix(), 0) / 3600 }

// hourEnd is the first moment of the next hour.
func hourEnd(hour int64) time.Time { return time.Unix((hour+1)*3600, 0).UTC() }
