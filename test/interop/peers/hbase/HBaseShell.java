import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hbase.Cell;
import org.apache.hadoop.hbase.CellUtil;
import org.apache.hadoop.hbase.HBaseConfiguration;
import org.apache.hadoop.hbase.HRegionLocation;
import org.apache.hadoop.hbase.ServerName;
import org.apache.hadoop.hbase.TableName;
import org.apache.hadoop.hbase.client.*;
import org.apache.hadoop.hbase.util.Bytes;

/**
 * HBaseShell HOST:PORT of ZooKeeper: commands from standard input, one a line, words separated by tabs. Each is answered
 * by lines that begin with a tab, then by "ok" or "error MESSAGE". HBase's own Java client does the work.
 */
public class HBaseShell {
  public static void main(String[] a) throws Exception {
    Configuration c = HBaseConfiguration.create();
    c.set("hbase.zookeeper.quorum", a[0].split(":")[0]);
    c.set("hbase.zookeeper.property.clientPort", a[0].split(":")[1]);
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    try (Connection conn = ConnectionFactory.createConnection(c); Admin admin = conn.getAdmin()) {
      for (String line; (line = in.readLine()) != null; ) {
        StringBuilder out = new StringBuilder();
        try {
          run(conn, admin, line.split("\t"), out);
          out.append("ok\n");
        } catch (Exception e) {
          out.append("error ").append(e.toString().replace('\n', ' ')).append('\n');
        }
        System.out.print(out);
        System.out.flush();
      }
    }
  }

  static void run(Connection conn, Admin admin, String[] w, StringBuilder out) throws Exception {
    TableName t = w.length > 1 ? TableName.valueOf(w[1]) : null;
    switch (w[0]) {
      case "create": // TABLE FAMILY [SPLIT...]
        byte[][] splits = new byte[w.length - 3][];
        for (int i = 3; i < w.length; i++) splits[i - 3] = Bytes.toBytes(w[i]);
        admin.createTable(TableDescriptorBuilder.newBuilder(t).setColumnFamily(ColumnFamilyDescriptorBuilder.of(w[2])).build(),
            splits.length == 0 ? null : splits);
        break;
      case "family": // TABLE FAMILY
        admin.addColumnFamily(t, ColumnFamilyDescriptorBuilder.of(w[2]));
        break;
      case "disable": admin.disableTable(t); break;
      case "enable": admin.enableTable(t); break;
      case "split": // TABLE ROW
        admin.split(t, Bytes.toBytes(w[2]));
        break;
      case "regions": // TABLE: start keys
        for (RegionInfo r : admin.getRegions(t)) out.append('\t').append(Bytes.toString(r.getStartKey())).append('\n');
        break;
      case "move": // TABLE: closes every region and opens it again, where there is only one server on that one
        List<ServerName> servers = new ArrayList<>(admin.getRegionServers());
        for (RegionInfo r : admin.getRegions(t)) admin.move(r.getEncodedNameAsBytes(), servers.get(r.hashCode() % servers.size() & 0x7fff));
        break;
      case "scan": // TABLE: a line for each cell: row, family, qualifier and value in hex
        try (Table table = conn.getTable(t); ResultScanner s = table.getScanner(new Scan().setCaching(1000))) {
          for (Result r : s)
            for (Cell x : r.rawCells())
              out.append('\t').append(Bytes.toHex(CellUtil.cloneRow(x))).append(' ').append(Bytes.toHex(CellUtil.cloneFamily(x))).append(' ')
                  .append(Bytes.toHex(CellUtil.cloneQualifier(x))).append(' ').append(Bytes.toHex(CellUtil.cloneValue(x))).append('\n');
        }
        break;
      case "count": // TABLE
        long n = 0;
        try (Table table = conn.getTable(t); ResultScanner s = table.getScanner(new Scan().setCaching(5000).setFilter(new org.apache.hadoop.hbase.filter.FirstKeyOnlyFilter()))) {
          for (Result r : s) n++;
        }
        out.append('\t').append(n).append('\n');
        break;
      default:
        throw new IllegalArgumentException("unknown command " + w[0]);
    }
  }
}
