import java.io.*;
import java.nio.charset.StandardCharsets;
import java.util.regex.*;

/**
 * Answers what java.util.regex does with patterns and inputs. Run by
 * `go test -run Golden -update` as `java Oracle.java`; reads and writes lines.
 *
 * In:  P flags pattern replacement      a pattern
 *      I input                          an input for the last pattern
 * Out: the same lines with an answer appended:
 *      P … ok|error
 *      I … groups matches replaced      groups: start,end pairs in chars or "-";
 *                                       "?" when Java needs too long
 * Fields are separated by tabs; bytes other than printable ASCII are %XX.
 */
public class Oracle {
    static byte[] decode(String s) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        for (int i = 0; i < s.length(); i++) {
            char c = s.charAt(i);
            if (c == '%') {
                out.write(Integer.parseInt(s.substring(i + 1, i + 3), 16));
                i += 2;
            } else {
                out.write(c);
            }
        }
        return out.toByteArray();
    }

    static String encode(String s) {
        StringBuilder sb = new StringBuilder();
        for (byte b : s.getBytes(StandardCharsets.UTF_8)) {
            if (b > 0x20 && b < 0x7f && b != '%') sb.append((char) b);
            else sb.append(String.format("%%%02X", b & 0xff));
        }
        return sb.toString();
    }

    static class TooLong extends RuntimeException {}

    /** Ends a match that backtracks without end. */
    static class Limited implements CharSequence {
        final String s;
        int left = 3_000_000;
        Limited(String s) { this.s = s; }
        public int length() { return s.length(); }
        public char charAt(int i) {
            if (--left < 0) throw new TooLong();
            return s.charAt(i);
        }
        public CharSequence subSequence(int a, int b) { return s.substring(a, b); }
        public String toString() { return s; }
    }

    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        PrintStream out = new PrintStream(new BufferedOutputStream(System.out, 1 << 16), false, "US-ASCII");
        Pattern p = null;
        String replacement = "";
        for (String line; (line = in.readLine()) != null; ) {
            String[] f = line.split("\t", -1);
            if (f[0].equals("P")) {
                p = null;
                replacement = new String(decode(f[3]), StandardCharsets.UTF_8);
                try {
                    p = Pattern.compile(new String(decode(f[2]), StandardCharsets.UTF_8), Integer.parseInt(f[1]));
                } catch (PatternSyntaxException e) {
                } catch (RuntimeException | StackOverflowError e) {
                }
                out.println(line + "\t" + (p == null ? "error" : "ok"));
                continue;
            }
            if (p == null) {
                out.println(line + "\t-\t0\t!");
                continue;
            }
            String s = new String(decode(f[1]), StandardCharsets.UTF_8);
            String groups = "-", matches, replaced;
            try {
                Matcher m = p.matcher(new Limited(s));
                if (m.find()) {
                    StringBuilder sb = new StringBuilder();
                    for (int g = 0; g <= m.groupCount(); g++)
                        sb.append(g == 0 ? "" : ",").append(m.start(g)).append(',').append(m.end(g));
                    groups = sb.toString();
                }
                matches = p.matcher(new Limited(s)).matches() ? "1" : "0";
                try {
                    replaced = "=" + encode(p.matcher(new Limited(s)).replaceAll(replacement));
                } catch (IndexOutOfBoundsException | IllegalArgumentException e) {
                    replaced = "!";
                }
            } catch (TooLong | StackOverflowError e) {
                groups = "?";
                matches = "?";
                replaced = "?";
            }
            out.println(line + "\t" + groups + "\t" + matches + "\t" + replaced);
        }
        out.flush();
    }
}
