package idmap

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"reflect"
	"testing"
)

// FuzzFindRecords reads logs of any content. What is read is written back the
// same, up to the order of records.
func FuzzFindRecords(f *testing.F) {
	ex := examples()
	f.Add(append(append(append([]byte{}, ex["log"]...), ex["batch"]...), ex["mark"]...))
	f.Fuzz(func(t *testing.T, data []byte) {
		end := 0
		for _, rec := range findRecords(data) {
			if rec.at < end || rec.end <= rec.at || rec.end > len(data) {
				t.Fatalf("a record from %d to %d, after one that ends at %d", rec.at, rec.end, end)
			}
			end = rec.end
			again, ok := parseRecord(appendRecord(nil, rec.seq, rec.durable, &rec.body), 0)
			if !ok || again.seq != rec.seq || !reflect.DeepEqual(again.body, rec.body) {
				t.Fatalf("written and read again, %+v is %+v", rec, again)
			}
		}
	})
}

// FuzzParseBody reads payloads without a checksum before them.
func FuzzParseBody(f *testing.F) {
	ex := examples()
	f.Add(ex["batch"][recordHeaderSize:])
	f.Add(ex["mark"][recordHeaderSize:])
	f.Fuzz(func(t *testing.T, data []byte) {
		b, ok := parseBody(data)
		if !ok {
			return
		}
		if len(b.entries)%entrySize != 0 {
			t.Fatalf("%d bytes of entries", len(b.entries))
		}
		if again, ok := parseBody(b.append(nil)); !ok || !reflect.DeepEqual(again, b) {
			t.Fatalf("written and read again, %+v is %+v", b, again)
		}
	})
}

// FuzzOpenRun opens runs of any content, with the right checksums or without,
// and looks keys up.
func FuzzOpenRun(f *testing.F) {
	entry := examples()["entry"]
	w := runWriter{f: &memFile{d: newMemDir(), n: &memInode{}}, foot: foot{number: 1, lastSeq: 1}}
	if err := w.add(entry); err != nil {
		f.Fatal(err)
	}
	if err := w.finish(); err != nil {
		f.Fatal(err)
	}
	f.Add(w.f.(*memFile).n.now, true)
	f.Fuzz(func(t *testing.T, data []byte, seal bool) {
		data = bytes.Clone(data)
		if seal {
			sealAll(data)
		}
		d := newMemDir()
		d.names[fileName(runPrefix, 1)] = &memInode{now: data}
		m := &Map{fs: d, log: slog.New(slog.DiscardHandler)}
		r, ok, err := openRun(m, runInfo{number: 1, entries: 1, firstSeq: 1, lastSeq: 1})
		if err != nil || !ok {
			return
		}
		if _, _, err := r.find(entry[:keySize]); err != nil {
			t.Fatal(err)
		}
		s := newRunSource(r, nil)
		for n := 0; ; n++ {
			b, err := s.next()
			if err != nil {
				t.Fatal(err)
			}
			if b == nil {
				break
			}
			if n > len(data)/entrySize {
				t.Fatal("more entries than bytes")
			}
		}
	})
}

// sealAll makes the checksums right where there are any.
func sealAll(data []byte) {
	if len(data) < footSize {
		return
	}
	for i := 0; (i+1)*blockSize <= len(data)-footSize; i++ {
		b := data[i*blockSize : (i+1)*blockSize]
		n := min(int(b[blockCountAt])<<8|int(b[blockCountAt+1]), blockEntries)
		sealBlock(b, n, uint64(i))
	}
	if foot, ok := parseFootFields(data[len(data)-footSize:]); ok {
		copy(data[len(data)-footSize:], foot.append(nil))
	}
}

// parseFootFields reads a foot whatever its checksum.
func parseFootFields(b []byte) (foot, bool) {
	b = bytes.Clone(b)
	binary.BigEndian.PutUint32(b[footSize-4:], checksum(b[:footSize-4]))
	return parseFoot(b)
}

// FuzzParseManifest reads manifests of any content, with the right checksums
// or without.
func FuzzParseManifest(f *testing.F) {
	f.Add(examples()["manifest"])
	f.Fuzz(func(t *testing.T, data []byte) {
		m, ok := parseManifest(data)
		if !ok {
			return
		}
		if again, ok := parseManifest(m.append(nil)); !ok || !reflect.DeepEqual(again, m) {
			t.Fatalf("written and read again, %+v is %+v", m, again)
		}
	})
}
