// A .NET program at the other end of a pipe: the two roles, and nothing of the formats (those are in Formats.cs).
//
//     peer serve   NAME FORMAT COUNT     a NamedPipeServerStream; prints "listening", then serves one client
//     peer connect NAME FORMAT COUNT     a NamedPipeClientStream; waits at most 20 s for the server
//     peer shout   NAME FORMAT LENGTH    connects, and sends one text of LENGTH letters and the text "after"
//
// "serve" and "connect" send COUNT texts and read COUNT texts at the same time. The texts are known to both sides
// (Texts.At); the first that differs ends the program with exit code 1. It ends with exit code 0 and prints
// "exchanged COUNT" when all of them were right and, for a client, the server has closed or stays silent.
// An exception ends it with exit code 2 and its text on stderr.

using System;
using System.IO.Pipes;
using System.Threading;

static class Peer
{
    const int ConnectTimeoutMs = 20000;

    static int Main(string[] arguments)
    {
        if (arguments.Length != 4)
        {
            Console.Error.WriteLine("usage: peer serve|connect|shout NAME FORMAT NUMBER");
            return 64;
        }
        string role = arguments[0], name = arguments[1], format = arguments[2];
        int number = int.Parse(arguments[3]);
        try
        {
            switch (role)
            {
                case "serve": return Serve(name, format, number);
                case "connect": return Connect(name, format, number);
                case "shout": return Shout(name, format, number);
            }
        }
        catch (Exception problem)
        {
            Console.Error.WriteLine(problem);
            return 2;
        }
        Console.Error.WriteLine("unknown role " + role);
        return 64;
    }

    static int Serve(string name, string format, int count)
    {
        using (var pipe = new NamedPipeServerStream(
            name, PipeDirection.InOut, 1, PipeTransmissionMode.Byte, PipeOptions.Asynchronous))
        {
            Console.WriteLine("listening");
            pipe.WaitForConnection();
            return Exchange(Formats.Open(format, pipe), count);
        }
    }

    static int Connect(string name, string format, int count)
    {
        using (var pipe = new NamedPipeClientStream(".", name, PipeDirection.InOut, PipeOptions.Asynchronous))
        {
            pipe.Connect(ConnectTimeoutMs);
            return Exchange(Formats.Open(format, pipe), count);
        }
    }

    static int Shout(string name, string format, int length)
    {
        using (var pipe = new NamedPipeClientStream(".", name, PipeDirection.InOut, PipeOptions.Asynchronous))
        {
            pipe.Connect(ConnectTimeoutMs);
            IFormat texts = Formats.Open(format, pipe);
            texts.Write(new string('x', length));
            texts.Write("after");
            // Stay until the other side has closed: an early end of file would hide what it makes of the text.
            texts.Read();
        }
        return 0;
    }

    // Reads and writes on two threads, so that neither side ever waits for the other to drain a full buffer.
    static int Exchange(IFormat texts, int count)
    {
        Exception failure = null;
        var writer = new Thread(() =>
        {
            try
            {
                for (int i = 0; i < count; i++) texts.Write(Texts.At(i));
            }
            catch (Exception problem)
            {
                failure = problem;
            }
        });
        writer.Start();
        for (int i = 0; i < count; i++)
        {
            string text = texts.Read();
            if (text != Texts.At(i))
            {
                Console.Error.WriteLine("text " + i + ": expected <" + Texts.At(i) + ">, read <" + text + ">");
                return 1;
            }
        }
        writer.Join();
        if (failure != null) throw failure;
        Console.WriteLine("exchanged " + count);
        // The end of file comes when the other side has read everything and closes.
        string surplus = texts.Read();
        if (surplus == null) return 0;
        Console.Error.WriteLine("surplus text <" + surplus + ">");
        return 1;
    }
}

static class Texts
{
    // The same rule is in programs.py. Korean, an emoji outside the basic plane, every length from empty to long.
    public static string At(int i)
    {
        if (i % 100 == 0) return "";
        return i + " 안녕하세요, 파이프 " + (i % 3 == 0 ? "😀" : "🏰") + new string('한', i % 97);
    }
}
