// What .NET programs write into a pipe: lines through StreamReader and StreamWriter, or a counted UTF-16 string.
//
//     utf-8-lines         StreamWriter(pipe): UTF-8 without a byte order mark, "\n"
//     utf-16-lines        StreamWriter(pipe, UTF-16 without a mark), "\r\n" as on Windows
//     utf-8-lines-marked  StreamWriter(pipe, Encoding.UTF8): .NET puts a byte order mark before the first line
//     utf-16-lines-marked StreamWriter(pipe, Encoding.Unicode): the same for UTF-16
//     stream-string       two bytes, big-endian: the number of bytes; then the text in UTF-16, little-endian

using System;
using System.IO;
using System.Text;

interface IFormat
{
    void Write(string text);

    // The next text, or null when the other side has closed.
    string Read();
}

static class Formats
{
    public static IFormat Open(string format, Stream pipe)
    {
        switch (format)
        {
            case "utf-8-lines": return new Lines(pipe, new UTF8Encoding(false), "\n");
            case "utf-16-lines": return new Lines(pipe, new UnicodeEncoding(false, false), "\r\n");
            case "utf-8-lines-marked": return new Lines(pipe, Encoding.UTF8, "\n");
            case "utf-16-lines-marked": return new Lines(pipe, Encoding.Unicode, "\n");
            case "stream-string": return new CountedString(pipe);
        }
        throw new ArgumentException("unknown format " + format);
    }
}

sealed class Lines : IFormat
{
    readonly StreamReader reader;
    readonly StreamWriter writer;

    public Lines(Stream pipe, Encoding encoding, string newLine)
    {
        reader = new StreamReader(pipe, encoding, false);
        writer = new StreamWriter(pipe, encoding) { AutoFlush = true, NewLine = newLine };
    }

    public void Write(string text)
    {
        writer.WriteLine(text);
    }

    public string Read()
    {
        return reader.ReadLine();
    }
}

sealed class CountedString : IFormat
{
    readonly Stream pipe;

    public CountedString(Stream pipe)
    {
        this.pipe = pipe;
    }

    public void Write(string text)
    {
        byte[] body = Encoding.Unicode.GetBytes(text);
        if (body.Length > ushort.MaxValue) throw new ArgumentException("a text of " + body.Length + " bytes");
        var frame = new byte[2 + body.Length];
        frame[0] = (byte)(body.Length >> 8);
        frame[1] = (byte)body.Length;
        body.CopyTo(frame, 2);
        pipe.Write(frame, 0, frame.Length);
    }

    public string Read()
    {
        int high = pipe.ReadByte();
        if (high < 0) return null;
        var body = new byte[high << 8 | pipe.ReadByte()];
        for (int done = 0; done < body.Length;)
        {
            int some = pipe.Read(body, done, body.Length - done);
            if (some == 0) throw new EndOfStreamException("the pipe ended inside a text");
            done += some;
        }
        return Encoding.Unicode.GetString(body);
    }
}
