import java.io.BufferedOutputStream;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ThreadLocalRandom;
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
    PrintStream out = new PrintStream(new BufferedOutputStream(new FileOutputStream(FileDescriptor.out), 1 << 16), false, StandardCharsets.UTF_8);
    try (Connection conn = ConnectionFactory.createConnection(c); Admin admin = conn.getAdmin()) {
      for (String line; (line = in.readLine()) != null; ) {
        try {
          run(conn, admin, line.split("\t"), out);
          out.append("ok\n");
        } catch (Exception e) {
          out.append("error ").append(e.toString().replace('\n', ' ')).append("\n");
        }
        out.flush();
      }
    }
  }

  static final byte[] FAMILY = Bytes.toBytes("cf1"); // of the handbook's table

  static byte[][] columns(String[] w, int from) {
    return Arrays.stream(w, from, w.length).map(Bytes::toBytes).toArray(byte[][]::new);
  }

  /** Read from hbase:meta, and not remembered. */
  static List<HRegionLocation> locations(Connection conn, TableName t) throws Exception {
    try (RegionLocator l = conn.getRegionLocator(t)) {
      return l.getAllRegionLocations();
    }
  }

  static String address(HRegionLocation l) {
    return l.getServerName() == null ? "none" : l.getServerName().getAddress().toString();
  }

  static ServerName server(Admin admin, String address) throws Exception {
    for (ServerName s : admin.getRegionServers()) if (s.getAddress().toString().equals(address)) return s;
    throw new IllegalArgumentException("no server at " + address);
  }

  static void run(Connection conn, Admin admin, String[] w, PrintStream out) throws Exception {
    TableName t = w.length > 1 && !w[1].equals("-") ? TableName.valueOf(w[1]) : null;
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
        for (RegionInfo r : admin.getRegions(t)) out.append('\t').append(Bytes.toString(r.getStartKey())).append("\n");
        break;
      case "move": // TABLE: closes every region and opens it again, on another server where there is one, several at a time
        List<ServerName> servers = new ArrayList<>(admin.getRegionServers());
        ExecutorService pool = Executors.newFixedThreadPool(8);
        List<Future<Void>> moves = new ArrayList<>();
        for (HRegionLocation l : locations(conn, t)) {
          List<ServerName> others = servers.stream().filter(s -> servers.size() == 1 || !s.equals(l.getServerName())).toList();
          ServerName to = others.get(ThreadLocalRandom.current().nextInt(others.size()));
          moves.add(pool.submit(() -> {
            admin.move(l.getRegion().getEncodedNameAsBytes(), to);
            return null;
          }));
        }
        pool.shutdown();
        for (Future<Void> m : moves) m.get();
        break;
      case "gather": // TABLE HOST:PORT: moves every region to that server
        for (HRegionLocation l : locations(conn, t))
          if (!address(l).equals(w[2])) admin.move(l.getRegion().getEncodedNameAsBytes(), server(admin, w[2]));
        break;
      case "where": // TABLE: for each region HOST:PORT of its server
        for (HRegionLocation l : locations(conn, t)) out.append('\t').append(address(l)).append("\n");
        break;
      case "available": // TABLE: whether all regions are open
        out.append('\t').append(String.valueOf(admin.isTableAvailable(t))).append("\n");
        break;
      case "servers": // HOST:PORT of those that live
        for (ServerName s : admin.getRegionServers()) out.append('\t').append(s.getAddress().toString()).append("\n");
        break;
      case "merge": // TABLE START: the region that begins there, and the next
        List<RegionInfo> regions = admin.getRegions(t);
        int at = 0;
        while (!Bytes.toString(regions.get(at).getStartKey()).equals(w[2])) at++;
        admin.mergeRegionsAsync(new byte[][] {regions.get(at).getEncodedNameAsBytes(), regions.get(at + 1).getEncodedNameAsBytes()}, false).get();
        break;
      case "balance": // whether the balancer ran
        out.append('\t').append(String.valueOf(admin.balance(BalanceRequest.newBuilder().setIgnoreRegionsInTransition(true).build()).isBalancerRan())).append("\n");
        break;
      case "halt": // - HOST:PORT: that server stops in order
        admin.stopRegionServer(w[2]);
        break;
      case "scan": // TABLE: a line for each cell: row, family, qualifier and value in hex
        try (Table table = conn.getTable(t); ResultScanner s = table.getScanner(new Scan().setCaching(1000))) {
          for (Result r : s)
            for (Cell x : r.rawCells())
              out.append('\t').append(Bytes.toHex(CellUtil.cloneRow(x))).append(" ").append(Bytes.toHex(CellUtil.cloneFamily(x))).append(" ")
                  .append(Bytes.toHex(CellUtil.cloneQualifier(x))).append(" ").append(Bytes.toHex(CellUtil.cloneValue(x))).append("\n");
        }
        break;
      case "count": // TABLE
        long n = 0;
        try (Table table = conn.getTable(t); ResultScanner s = table.getScanner(new Scan().setCaching(5000).setFilter(new org.apache.hadoop.hbase.filter.FirstKeyOnlyFilter()))) {
          for (Result r : s) n++;
        }
        out.append("\t").append(String.valueOf(n)).append("\n");
        break;
      case "keep": // TABLE FAMILY VERSIONS: how many versions of a cell there may be
        admin.modifyColumnFamily(t, ColumnFamilyDescriptorBuilder.newBuilder(Bytes.toBytes(w[2])).setMaxVersions(Integer.parseInt(w[3])).build());
        break;
      case "drop": // TABLE
        admin.disableTable(t);
        admin.deleteTable(t);
        break;
      case "rows": // TABLE COLUMN...: a line for each row: its key, how often it was written, the cells in it, the columns' values
        try (Table table = conn.getTable(t); ResultScanner s = table.getScanner(new Scan().setCaching(5000).readAllVersions())) {
          byte[][] columns = columns(w, 2);
          for (Result r : s) {
            List<Cell> first = r.getColumnCells(FAMILY, columns[0]);
            out.append("\t").append(Bytes.toString(r.getRow())).append(" ").append(String.valueOf(first.size())).append(" ")
                .append(String.valueOf(r.getFamilyMap(FAMILY).size())).append(" ");
            for (int i = 0; i < columns.length; i++) {
              byte[] v = r.getValue(FAMILY, columns[i]);
              out.append(i == 0 ? "" : ",").append(v == null ? "(none)" : Bytes.toString(v));
            }
            out.append("\n");
          }
        }
        break;
      case "mutate": // TABLE FILE N COLUMN...: the first N records of a log of driving records through a BufferedMutator: the time in ms
        List<String> lines = new ArrayList<>();
        try (BufferedReader log = Files.newBufferedReader(Path.of(w[2]))) {
          for (String l; lines.size() < Integer.parseInt(w[3]) && (l = log.readLine()) != null; )
            if (l.matches("\\d{14},.*")) lines.add(l);
        }
        byte[][] columns = columns(w, 4);
        long begin = System.nanoTime();
        try (BufferedMutator m = conn.getBufferedMutator(t)) {
          for (String l : lines) {
            String[] f = l.split(",");
            Put p = new Put(Bytes.toBytes(new StringBuilder(f[0]).reverse().append('-').append(f[1]).toString()));
            for (int i = 0; i < columns.length; i++) p.addColumn(FAMILY, columns[i], Bytes.toBytes(f[i]));
            m.mutate(p);
          }
        }
        out.append("\t").append(String.valueOf((System.nanoTime() - begin) / 1_000_000)).append("\n");
        break;
      default:
        throw new IllegalArgumentException("unknown command " + w[0]);
    }
  }
}
