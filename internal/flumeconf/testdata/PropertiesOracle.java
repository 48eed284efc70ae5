// Reads hexadecimal lines, loads each as java.util.Properties text and prints
// KEY=VALUE pairs in the hexadecimal digits of their UTF-16 units, sorted, or
// "error". The Go test compares its parser with the result; see java_test.go.
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.InputStreamReader;
import java.util.Properties;
import java.util.TreeSet;

class PropertiesOracle {
    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, "US-ASCII"));
        StringBuilder out = new StringBuilder();
        for (String line; (line = in.readLine()) != null;) {
            byte[] text = new byte[line.length() / 2];
            for (int i = 0; i < text.length; i++) {
                text[i] = (byte) Integer.parseInt(line.substring(2 * i, 2 * i + 2), 16);
            }
            Properties p = new Properties();
            String result;
            try {
                p.load(new ByteArrayInputStream(text));
                TreeSet<String> pairs = new TreeSet<>();
                for (String k : p.stringPropertyNames()) {
                    pairs.add(hex(k) + "=" + hex(p.getProperty(k)));
                }
                result = String.join(",", pairs);
            } catch (IllegalArgumentException e) {
                result = "error";
            }
            out.append(line).append(' ').append(result).append('\n');
        }
        System.out.print(out);
    }

    static String hex(String s) {
        StringBuilder b = new StringBuilder();
        // Half a surrogate pair cannot be written as UTF-8; Go has U+FFFD there.
        s.codePoints().map(c -> c >= 0xd800 && c < 0xe000 ? 0xfffd : c).forEach(c -> {
            for (char u : Character.toChars(c)) {
                b.append(String.format("%04x", (int) u));
            }
        });
        return b.toString();
    }
}
