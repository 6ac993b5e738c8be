package payload

import "bytes"

// Members calls yield with the key and the value of each member of a checked object, in order, until it says false. The
// key is a JSON string as it stands there; see Unquote. Both are parts of object.
func Members(object []byte, yield func(key, value []byte) bool) {
	i := space(object, 0)
	for i = space(object, i+1); object[i] != '}'; {
		end := End(object, i)
		at := space(object, space(object, end)+1) // behind the colon
		next := End(object, at)
		if !yield(object[i:end:end], object[at:next:next]) {
			return
		}
		if i = space(object, next); object[i] == ',' {
			i = space(object, i+1)
		}
	}
}

// Items calls yield with each item of a checked array, in order, until it says false. Items are parts of array.
func Items(array []byte, yield func(item []byte) bool) {
	i := space(array, 0)
	for i = space(array, i+1); array[i] != ']'; {
		end := End(array, i)
		if !yield(array[i:end:end]) {
			return
		}
		if i = space(array, end); array[i] == ',' {
			i = space(array, i+1)
		}
	}
}

// End returns where the value ends that begins at i of a checked text, however deep it is.
func End(text []byte, i int) int {
	depth := 0
	for {
		switch text[i] {
		case '"':
			i = quoteEnd(text, i)
		case '[', '{':
			depth++
			i++
		case ']', '}':
			depth--
			i++
		default: // a number or word; or what stands between values, which is passed byte by byte like these
			i++
			for depth == 0 && i < len(text) && !endsScalar(text[i]) {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
}

func endsScalar(c byte) bool { return c == ',' || c == ']' || c == '}' || c <= ' ' }

// quoteEnd returns where the string ends that begins at i of a checked text.
func quoteEnd(text []byte, i int) int {
	for i++; ; i++ {
		i += bytes.IndexByte(text[i:], '"')
		slashes := i
		for text[slashes-1] == '\\' {
			slashes--
		}
		if (i-slashes)%2 == 0 {
			return i + 1
		}
	}
}
